//! The report as a table for a terminal: numbers right-aligned, the total first so that a narrow window shows it.
//!
//! Row labels are the names of the JSON form, so that both can be searched for the same word.

use std::fmt::Write as _;

use super::{BackendFigures, Figures, QUANTILES, Report};
use crate::stats::{
    histogram::Snapshot,
    names::{BackendCount, BackendLevel, Count, Level, Refusal},
};

/// The sections of counters and gauges, in the order they are shown.
const SECTIONS: [&str; 7] =
    ["connections", "requests", "datagrams", "bytes", "upstream", "faults", "resources"];

/// Where a counter or gauge is shown: by its name, so that a new one needs no entry here.
fn section(name: &str) -> &'static str {
    let begins = |stems: &[&str]| stems.iter().any(|stem| name.starts_with(stem));
    if name.ends_with("_bytes") {
        "bytes"
    } else if begins(&["connection", "accept_", "idle_timeouts"]) {
        "connections"
    } else if begins(&["request", "response", "exchange", "tunnel", "local_replies", "upgrades"]) {
        "requests"
    } else if begins(&["udp_"]) {
        "datagrams"
    } else if begins(&["retries_", "upstream_"]) {
        "upstream"
    } else if begins(&["fault_"]) {
        "faults"
    } else {
        "resources"
    }
}

/// Lines in the making: a heading has no cells.
struct Table<'a> {
    /// The total, then each worker.
    columns: Vec<&'a Figures>,
    lines: Vec<(String, Vec<String>)>,
}

impl Table<'_> {
    fn heading(&mut self, text: &str) {
        self.lines.push((String::new(), Vec::new()));
        self.lines.push((text.to_owned(), Vec::new()));
    }

    fn row(&mut self, label: &str, cell: impl Fn(&Figures) -> String) {
        let cells = self.columns.iter().map(|figures| cell(figures)).collect();
        self.lines.push((format!("  {label}"), cells));
    }

    fn numbers(&mut self, label: &str, number: impl Fn(&Figures) -> u64) {
        self.row(label, |figures| number(figures).to_string());
    }

    /// A row that is left out while every worker's number is zero; true if it was not.
    fn numbers_if_any(&mut self, label: &str, number: impl Fn(&Figures) -> u64) -> bool {
        let any = self.columns.iter().any(|figures| number(figures) != 0);
        if any {
            self.numbers(label, number);
        }
        any
    }

    fn finish(self) -> String {
        let label_width = self.lines.iter().filter(|line| !line.1.is_empty()).map(|line| line.0.len()).max();
        let mut widths = vec![0; self.columns.len()];
        for (_, cells) in &self.lines {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.len().max(*width);
            }
        }
        let mut out = String::new();
        for (label, cells) in &self.lines {
            if cells.is_empty() {
                out.push_str(label);
            } else {
                let _ = write!(out, "{label:<width$}", width = label_width.unwrap_or(0));
            }
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(out, "  {cell:>width$}");
            }
            out.push('\n');
        }
        out
    }
}

/// The whole table; ends with a line feed.
pub(super) fn render(report: &Report) -> String {
    let columns = std::iter::once(&report.total).chain(report.workers.iter().map(|worker| &worker.figures));
    let mut table = Table { columns: columns.collect(), lines: Vec::new() };
    table.lines.push(head("statistics", "total", report, |worker, _| format!("worker {worker}")));
    table.lines.push(head("  core", "", report, |_, core| core.to_string()));
    for name in SECTIONS {
        table.heading(name);
        for level in Level::ALL.iter().filter(|level| section(level.name()) == name) {
            table.numbers(level.name(), |figures| figures.level(*level));
        }
        for count in Count::ALL.iter().filter(|count| section(count.name()) == name) {
            table.numbers(count.name(), |figures| figures.get(*count));
        }
    }
    refusals(&mut table);
    for (index, backend) in report.total.backends.iter().enumerate() {
        backend_rows(&mut table, index, backend);
    }
    if !report.probes.is_empty() {
        table.heading("probes");
        table.lines.extend(report.probes.iter().map(|probed| (probed.to_text(), Vec::new())));
    }
    latency(&mut table, "latency total (us)", |figures| &figures.total_time);
    latency(&mut table, "latency first byte (us)", |figures| &figures.first_byte_time);
    table.finish()
}

fn head(
    label: &str,
    total: &str,
    report: &Report,
    cell: impl Fn(usize, usize) -> String,
) -> (String, Vec<String>) {
    let workers = report.workers.iter().map(|of| cell(of.worker, of.core));
    (label.to_owned(), std::iter::once(total.to_owned()).chain(workers).collect())
}

fn refusals(table: &mut Table<'_>) {
    table.heading("refusals");
    let mut any = false;
    for why in Refusal::ALL {
        any |= table.numbers_if_any(why.name(), |figures| figures.refused(*why));
    }
    if !any {
        table.lines.push(("  none".to_owned(), Vec::new()));
    }
}

/// What is asked first about a backend always; the rest only if it happened, for there may be many backends.
fn backend_rows(table: &mut Table<'_>, index: usize, backend: &BackendFigures) {
    table.heading(&format!("backend {} cluster={}", backend.backend, backend.cluster));
    let state = |figures: &Figures| figures.backends.get(index).map_or("", BackendFigures::state).to_owned();
    table.row("state", state);
    let level = |figures: &Figures, what| figures.backends.get(index).map_or(0, |of| of.level(what));
    for what in [BackendLevel::Active, BackendLevel::Idle] {
        table.numbers(what.name(), |figures| level(figures, what));
    }
    let rest = BackendLevel::ALL.iter().filter(|of| !matches!(of, BackendLevel::Active | BackendLevel::Idle));
    for what in rest {
        table.numbers_if_any(what.name(), |figures| level(figures, *what));
    }
    let get = |figures: &Figures, what| figures.backends.get(index).map_or(0, |of| of.get(what));
    for what in BackendCount::ALL {
        match what {
            BackendCount::Picks => table.numbers(what.name(), |figures| get(figures, *what)),
            _ => _ = table.numbers_if_any(what.name(), |figures| get(figures, *what)),
        }
    }
}

fn latency(table: &mut Table<'_>, heading: &str, times: impl Fn(&Figures) -> &Snapshot) {
    table.heading(heading);
    table.numbers("count", |figures| times(figures).count());
    for (name, share) in QUANTILES {
        table.numbers(name, |figures| times(figures).quantile(share));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::plan::Plan,
        stats::{report::tests::two_workers, view::View},
    };

    fn row<'a>(text: &'a str, label: &str) -> Vec<&'a str> {
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find(|words| words.first() == Some(&label)).unwrap_or_default()
    }

    #[test]
    fn columns_are_the_total_and_each_worker() {
        let text = Report::collect(&two_workers()).to_text();
        assert_eq!(row(&text, "requests"), ["requests"], "a heading");
        assert!(text.starts_with("statistics"));
        assert_eq!(row(&text, "core"), ["core", "2", "5"]);
        assert_eq!(row(&text, "connections_active"), ["connections_active", "2", "1", "1"]);
        assert_eq!(row(&text, "client_sent_bytes"), ["client_sent_bytes", "12345678901", "0", "12345678901"]);
        assert_eq!(row(&text, "state"), ["state", "up", "up", "up"]);
        assert!(text.contains("\nbackend 127.0.0.1:3032 cluster=default\n"));
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn only_refusals_that_happened_are_shown() {
        let text = Report::collect(&two_workers()).to_text();
        assert_eq!(row(&text, "repeated_host"), ["repeated_host", "1", "0", "1"]);
        assert!(!text.contains("missing_host"));
        let quiet = View::new(Arc::new(Plan::for_tests(&["127.0.0.1:1"])));
        assert!(Report::collect(&quiet).to_text().contains("\nrefusals\n  none\n"));
    }

    #[test]
    fn every_row_of_numbers_is_equally_wide() {
        let mut plan = Plan::for_tests(&["127.0.0.1:3031"]);
        plan.cores = (0..16).collect();
        let view = View::new(Arc::new(plan));
        view.workers[9].stats.add(Count::UpstreamReceivedBytes, u64::MAX / 2);
        let text = Report::collect(&view).to_text();
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("  ") && *line != "  none").collect();
        assert!(rows.len() > Count::LEN);
        assert!(rows.iter().all(|row| row.len() == rows[0].len()));
        assert!(rows[0].len() < 260, "{} is too wide for sixteen workers", rows[0].len());
    }

    #[test]
    fn every_counter_and_gauge_is_in_a_section() {
        let names = Count::ALL.iter().map(|c| c.name()).chain(Level::ALL.iter().map(|l| l.name()));
        for name in names {
            assert!(SECTIONS.contains(&section(name)), "{name}");
        }
    }
}
