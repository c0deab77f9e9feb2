//! `[log]`.

use tracing_subscriber::EnvFilter;

use super::{
    error::{Problem, quote},
    reader::Section,
    scalar,
};
pub use crate::telemetry::log::Format as LogFormat;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Filter directives, such as `info` or `ccgateway_bridge=debug,info`. `log.filter`.
    pub filter: String,
    /// `log.format`.
    pub format: LogFormat,
}

pub(super) fn log(section: &Section<'_>) -> Log {
    let filter = section.read("filter", |node| {
        let text = scalar::text(node)?;
        // `EnvFilter` reads an empty text as "errors only", which is probably not what was meant.
        let good = !text.trim().is_empty() && EnvFilter::builder().parse(text).is_ok();
        good.then(|| text.to_owned()).ok_or_else(|| {
            Problem::new(
                format!("{} is not a log filter", quote(text)),
                "give directives such as \"info\" or \"ccgateway_bridge=debug,info\"",
            )
        })
    });
    let formats =
        [("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)];
    Log {
        filter: filter.unwrap_or_else(|| "info".to_owned()),
        format: section.choice("format", &formats).unwrap_or(LogFormat::Auto),
    }
}
