//! Logs on stderr, for a human or a journal (text) or for a collector (JSON).
//!
//! Owns the two line formats and the installation of the subscriber. Never panics and never fails: a line
//! that cannot be written is lost. Each line is one write, so those of several threads do not mix. Written
//! to by the control thread and by workers at start and end; the path of a request does not log.

use std::{
    error::Error,
    fmt::{self, Write},
    io,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer, time::FormatTime, time::SystemTime,
    },
    registry::LookupSpan,
};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// `message key=value`, without a time: a journal adds one.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Sends every event from INFO upwards to stderr. A second call changes nothing.
pub fn init(format: LogFormat) {
    // The only error is that a subscriber is installed already, which then goes on working.
    let _ = tracing::dispatcher::set_global_default(dispatch(format, SystemTime, io::stderr));
}

fn dispatch<T, W>(format: LogFormat, timer: T, writer: W) -> tracing::Dispatch
where
    T: FormatTime + Send + Sync + 'static,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_max_level(Level::INFO)
        .with_ansi(false)
        .with_writer(writer)
        // Reporting a failed write goes through `eprintln!`, which panics when stderr is a closed pipe.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.event_format(TextLine).finish().into(),
        LogFormat::Json => builder
            .json()
            .with_timer(timer)
            .flatten_event(true)
            .with_target(false)
            .with_current_span(false)
            .with_span_list(false)
            .finish()
            .into(),
    }
}

/// `warning: message key=value key="two words"`.
struct TextLine;

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = TextFields::default();
        event.record(&mut line);
        let prefix = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        let TextFields { message, fields } = line;
        // An event without a message begins with its first field, not with a space.
        let fields = if message.is_empty() { fields.trim_start() } else { &fields };
        writeln!(writer, "{prefix}{message}{fields}")
    }
}

#[derive(Default)]
struct TextFields {
    message: String,
    /// Each field with a space before it.
    fields: String,
}

impl TextFields {
    fn push(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail; a value whose own Display fails is cut short.
        if field.name() == "message" {
            let _ = self.message.write_fmt(value);
            return;
        }
        let text = value.to_string();
        let plain = |c: char| !(c.is_whitespace() || c.is_control() || matches!(c, '"' | '=' | '\\'));
        let _ = if !text.is_empty() && text.chars().all(plain) {
            write!(self.fields, " {}={text}", field.name())
        } else {
            write!(self.fields, " {}={text:?}", field.name())
        };
    }
}

impl Visit for TextFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.push(field, format_args!("{text}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing::{error, info, info_span, warn};

    use super::*;

    struct Wire(mpsc::Sender<Vec<u8>>);

    impl io::Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct ClosedPipe;

    impl io::Write for ClosedPipe {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Noon;

    impl FormatTime for Noon {
        fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
            writer.write_str("noon")
        }
    }

    /// What `events` writes: one item for each write.
    fn written(format: LogFormat, events: impl FnOnce()) -> Vec<String> {
        let (sender, receiver) = mpsc::channel();
        let dispatch = dispatch(format, Noon, move || Wire(sender.clone()));
        tracing::dispatcher::with_default(&dispatch, events);
        drop(dispatch);
        receiver.into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn text_is_message_and_fields() {
        let lines = written(LogFormat::Text, || {
            info!(mode = "http", address = %"127.0.0.1:1", workers = 2, up = true, "listening");
            warn!(backend = "a b", empty = "", quote = "say \"x\"", equals = "a=b", "bad\u{20}news");
            error!(forged = "a\nready", "down");
            info!(only = 1);
            tracing::debug!("not shown");
        });
        assert_eq!(
            lines,
            [
                "listening mode=http address=127.0.0.1:1 workers=2 up=true\n",
                "warning: bad news backend=\"a b\" empty=\"\" quote=\"say \\\"x\\\"\" equals=\"a=b\"\n",
                "error: down forged=\"a\\nready\"\n",
                "only=1\n",
            ]
        );
    }

    #[test]
    fn text_shows_the_causes_of_an_error() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let lines = written(LogFormat::Text, || {
            let outer = Outer(io::Error::other("inner"));
            error!(error = &outer as &(dyn Error + 'static), "failed");
        });
        assert_eq!(lines, ["error: failed error=\"outer: inner\"\n"]);
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let lines = written(LogFormat::Json, || {
            let span = info_span!("noise", worker = 1);
            span.in_scope(|| warn!(backend = "a b", picks = 3, "down\nhard"));
        });
        assert_eq!(lines.len(), 1);
        let line = lines[0].strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'));
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        let expected = serde_json::json!({
            "timestamp": "noon", "level": "WARN", "message": "down\nhard", "backend": "a b", "picks": 3,
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn a_closed_stderr_loses_lines_and_nothing_else() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let dispatch = dispatch(format, Noon, || ClosedPipe);
            tracing::dispatcher::with_default(&dispatch, || error!("lost"));
        }
    }

    #[test]
    fn a_second_init_changes_nothing() {
        init(LogFormat::Text);
        init(LogFormat::Json);
    }
}
