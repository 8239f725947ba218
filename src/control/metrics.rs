//! The report in OpenMetrics text, for Prometheus.
//!
//! Encoded from the workers' own cells each time somebody asks: there is no second store of numbers. Every sample
//! carries the label `worker`, except the build's.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{Registry, Unit},
};

use crate::health::standing::State;
use crate::stats::{
    histogram::Snapshot,
    names::{BackendCount, BackendLevel, Count, Level, Refusal},
    probes::{Latest, ProbeFigures},
    report::{BackendFigures, Figures, Report, WorkerFigures},
};

/// What [`encode`] returns is of this type.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything the report holds, as text. Fails only if the text cannot be written, thus never.
pub fn encode(report: Report) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ringway");
    registry.register_collector(Box::new(Exporter(report)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug, Clone, EncodeLabelSet)]
struct WorkerLabels {
    worker: usize,
}

#[derive(Debug, Clone, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
    worker: usize,
}

#[derive(Debug, Clone, EncodeLabelSet)]
struct ProbedLabels {
    cluster: Arc<str>,
    backend: Arc<str>,
}

#[derive(Debug, Clone, EncodeLabelSet)]
struct BackendLabels {
    cluster: Arc<str>,
    backend: Arc<str>,
    worker: usize,
}

#[derive(Debug, Clone, EncodeLabelSet)]
struct StateLabels {
    cluster: Arc<str>,
    backend: Arc<str>,
    state: &'static str,
}

/// Translates names and units; holds the report only while it is encoded.
#[derive(Debug)]
struct Exporter(Report);

impl Collector for Exporter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        encoder
            .encode_descriptor("build", "The running build.", None, MetricType::Info)?
            .encode_info(&version)?;
        self.counters_and_gauges(&mut encoder)?;
        self.refusals(&mut encoder)?;
        self.backends(&mut encoder)?;
        self.states(&mut encoder)?;
        self.probes(&mut encoder)?;
        let help = "From the first byte of a request to the last of its response.";
        self.histogram(&mut encoder, "request_duration", help, |of| &of.total_time)?;
        let help = "From the end of the request to the first byte of the response.";
        self.histogram(&mut encoder, "first_byte_duration", help, |of| &of.first_byte_time)
    }
}

impl Exporter {
    fn counters_and_gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for what in Count::ALL {
            let family = Family::new(what.name(), what.help(), MetricType::Counter);
            let mut family = family.open(encoder)?;
            for WorkerFigures { worker, figures, .. } in self.0.workers() {
                counter(&mut family, &WorkerLabels { worker: *worker }, figures.get(*what))?;
            }
        }
        for what in Level::ALL {
            let family = Family::new(what.name(), what.help(), MetricType::Gauge);
            let mut family = family.open(encoder)?;
            for WorkerFigures { worker, figures, .. } in self.0.workers() {
                gauge(&mut family, &WorkerLabels { worker: *worker }, figures.level(*what))?;
            }
        }
        Ok(())
    }

    fn refusals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests refused for what they are, by reason.";
        let family = Family::new("refusals", help, MetricType::Counter);
        let mut family = family.open(encoder)?;
        for why in Refusal::ALL {
            for WorkerFigures { worker, figures, .. } in self.0.workers() {
                let labels = RefusalLabels { reason: why.name(), worker: *worker };
                counter(&mut family, &labels, figures.refused(*why))?;
            }
        }
        Ok(())
    }

    fn backends(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for what in BackendCount::ALL {
            let name = format!("backend_{}", what.name());
            let family = Family::new(&name, what.help(), MetricType::Counter);
            let mut family = family.open(encoder)?;
            for (labels, backend) in self.each_backend() {
                counter(&mut family, &labels, backend.get(*what))?;
            }
        }
        for what in BackendLevel::ALL {
            let name = format!("backend_{}", what.name());
            let family = Family::new(&name, what.help(), MetricType::Gauge);
            let mut family = family.open(encoder)?;
            for (labels, backend) in self.each_backend() {
                gauge(&mut family, &labels, backend.level(*what))?;
            }
        }
        Ok(())
    }

    /// One of a backend's states is 1, the others are 0.
    fn states(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 for the state the backend is in.";
        let family = Family::new("backend_state", help, MetricType::Gauge);
        let mut family = family.open(encoder)?;
        for backend in &self.0.total().backends {
            for state in State::ALL {
                let (cluster, name) = (Arc::clone(&backend.cluster), Arc::clone(&backend.backend));
                let labels = StateLabels { cluster, backend: name, state: state.name() };
                gauge(&mut family, &labels, u64::from(backend.is_in(state)))?;
            }
        }
        Ok(())
    }

    /// Control's numbers, so without a worker.
    fn probes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Number = fn(&Latest) -> u64;
        let families: [(&str, &str, MetricType, Number); 3] = [
            ("backend_probes", "Probes that have ended.", MetricType::Counter, |of| of.probes),
            ("backend_probes_failed", "Probes that failed.", MetricType::Counter, |of| of.failures),
            ("backend_probed_up", "1 while probes let it take work.", MetricType::Gauge, |of| of.up.into()),
        ];
        for (name, help, kind, number) in families {
            let family = Family::new(name, help, kind);
            let mut family = family.open(encoder)?;
            for (labels, latest) in self.each_probed() {
                match kind {
                    MetricType::Counter => counter(&mut family, &labels, number(latest))?,
                    _ => gauge(&mut family, &labels, number(latest))?,
                }
            }
        }
        let (stem, help) = ("backend_last_probe", "How long the last probe took.");
        let mut family = encoder.encode_descriptor(stem, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (labels, latest) in self.each_probed() {
            family.encode_family(&labels)?.encode_gauge(&(latest.last_ms as f64 / 1e3))?;
        }
        Ok(())
    }

    fn each_probed(&self) -> impl Iterator<Item = (ProbedLabels, &Latest)> {
        self.0.probes().iter().map(|ProbeFigures { cluster, backend, latest }| {
            (ProbedLabels { cluster: Arc::clone(cluster), backend: Arc::clone(backend) }, latest)
        })
    }

    fn each_backend(&self) -> impl Iterator<Item = (BackendLabels, &BackendFigures)> {
        self.0.workers().iter().flat_map(|of| {
            of.figures.backends.iter().map(|backend| {
                let (cluster, name) = (Arc::clone(&backend.cluster), Arc::clone(&backend.backend));
                (BackendLabels { cluster, backend: name, worker: of.worker }, backend)
            })
        })
    }

    fn histogram(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        stem: &str,
        help: &str,
        times: impl Fn(&Figures) -> &Snapshot,
    ) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor(stem, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for WorkerFigures { worker, figures, .. } in self.0.workers() {
            let times = times(figures);
            let labels = WorkerLabels { worker: *worker };
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                times.sum() as f64 / 1e6,
                times.count(),
                &buckets(times),
                None,
            )?;
        }
        Ok(())
    }
}

/// The head of several samples.
struct Family<'a> {
    stem: &'a str,
    help: &'a str,
    unit: Option<Unit>,
    kind: MetricType,
}

impl<'a> Family<'a> {
    /// The encoder puts the unit behind the stem again.
    fn new(name: &'a str, help: &'a str, kind: MetricType) -> Self {
        match name.strip_suffix("_bytes") {
            Some(stem) => Family { stem, help, unit: Some(Unit::Bytes), kind },
            None => Family { stem: name, help, unit: None, kind },
        }
    }

    fn open<'s>(&'s self, encoder: &'s mut DescriptorEncoder<'_>) -> Result<MetricEncoder<'s>, fmt::Error> {
        encoder.encode_descriptor(self.stem, self.help, self.unit.as_ref(), self.kind)
    }
}

fn counter(family: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    family.encode_family(labels)?.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
}

fn gauge(family: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> fmt::Result {
    family.encode_family(labels)?.encode_gauge(&value)
}

/// Upper bounds in seconds with what falls between each and the one before; the last has no bound.
///
/// Recording cuts off fractions of a microsecond, so a bucket that ends with 7 holds what took less than 8.
fn buckets(times: &Snapshot) -> Vec<(f64, u64)> {
    let cumulative = times.cumulative();
    let last = cumulative.len().saturating_sub(1);
    let mut before = 0;
    let bucket = |(index, (micros, seen)): (usize, &(u64, u64))| {
        let bound = if index == last { f64::INFINITY } else { (micros + 1) as f64 / 1e6 };
        let amount = seen - before;
        before = *seen;
        (bound, amount)
    };
    cumulative.iter().enumerate().map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::stats::{probes::tests::probed, report::tests::two_workers};

    fn encoded() -> String {
        encode(Report::collect(&two_workers()).with_probes(vec![probed()])).unwrap()
    }

    #[test]
    fn samples_carry_name_labels_and_value() {
        let text = encoded();
        for line in [
            concat!("ringway_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "# TYPE ringway_requests counter",
            "# HELP ringway_requests Request heads that were complete and valid.",
            "ringway_requests_total{worker=\"0\"} 1000",
            "ringway_requests_total{worker=\"1\"} 234",
            "# UNIT ringway_client_sent_bytes bytes",
            "ringway_client_sent_bytes_total{worker=\"1\"} 12345678901",
            "ringway_connections_active{worker=\"0\"} 1",
            "ringway_refusals_total{reason=\"repeated_host\",worker=\"1\"} 1",
            "ringway_backend_picks_total{cluster=\"default\",backend=\"127.0.0.1:3031\",worker=\"0\"} 7",
            "ringway_backend_probes_total{cluster=\"default\",backend=\"127.0.0.1:3031\"} 7",
            "ringway_backend_probes_failed_total{cluster=\"default\",backend=\"127.0.0.1:3031\"} 5",
            "ringway_backend_probed_up{cluster=\"default\",backend=\"127.0.0.1:3031\"} 0",
            "ringway_backend_last_probe_seconds{cluster=\"default\",backend=\"127.0.0.1:3031\"} 0.25",
            "ringway_backend_skipped{cluster=\"default\",backend=\"127.0.0.1:3032\",worker=\"1\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn histograms_grow_to_their_count() {
        let text = encoded();
        let of = "ringway_request_duration_seconds";
        for line in [
            format!("# TYPE {of} histogram"),
            format!("{of}_count{{worker=\"0\"}} 2"),
            format!("{of}_sum{{worker=\"0\"}} 0.0003"),
            format!("{of}_bucket{{le=\"0.000064\",worker=\"0\"}} 0"),
            format!("{of}_bucket{{le=\"0.000128\",worker=\"0\"}} 1"),
            format!("{of}_bucket{{le=\"0.000256\",worker=\"0\"}} 2"),
            format!("{of}_bucket{{le=\"+Inf\",worker=\"0\"}} 2"),
            format!("{of}_bucket{{le=\"+Inf\",worker=\"1\"}} 1"),
            "ringway_first_byte_duration_seconds_count{worker=\"1\"} 0".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn every_name_is_declared_once_and_every_sample_is_unique() {
        let text = encoded();
        let types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let names: HashSet<_> = types.iter().map(|line| line.split(' ').nth(2)).collect();
        assert_eq!(names.len(), types.len());
        let expected = Count::LEN + Level::LEN + BackendCount::LEN + BackendLevel::LEN + 9;
        assert_eq!(types.len(), expected);
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let keys: HashSet<_> = samples.iter().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        assert_eq!(keys.len(), samples.len());
    }
}
