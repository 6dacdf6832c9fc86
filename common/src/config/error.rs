//! Why a configuration is not usable.

/// Why a configuration is not usable; the program ends with [`EXIT_CONFIG`](super::EXIT_CONFIG).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot read the configuration: {source}; check the path and who may read it")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is over the limit.
    #[error("{file}: the configuration is longer than {max} bytes; is this the right file?")]
    TooLong {
        /// The file.
        file: String,
        /// The limit.
        max: usize,
    },
    /// A place in the file or an environment variable is wrong.
    #[error("{place}: {problem}")]
    Invalid {
        /// `file:line:column`, or the environment variable.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// Puts serde's reason into words for whoever wrote the file: `section` is empty at the top level.
pub(super) fn explain(message: &str, section: &str) -> String {
    let place = if section.is_empty() { "at the top level".to_owned() } else { format!("in [{section}]") };
    if let Some((unknown, expected)) = message.strip_prefix("unknown field ").and_then(cut_unknown) {
        let remedy = match nearest(unknown, &expected) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if expected.is_empty() => "no key is known there".to_owned(),
            None => format!("known keys: {}", expected.join(", ")),
        };
        return format!("unknown key \"{unknown}\" {place}; {remedy}");
    }
    if let Some((missing, _)) = message.strip_prefix("missing field ").and_then(cut_unknown) {
        return format!("the key \"{missing}\" is missing {place}; add it");
    }
    format!("{} {place}", message.trim_end().replace('\n', ", "))
}

/// From "`lisen`, expected one of `listen`, `port`" the unknown name and the expected ones.
fn cut_unknown(rest: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = rest.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// The expected name that the unknown one is most like, if it is like any.
fn nearest<'a>(unknown: &str, expected: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &str| strsim::damerau_levenshtein(unknown, name);
    let near = expected.iter().copied().min_by_key(|name| likeness(name))?;
    // A third of the letters may be wrong, and one in any case.
    (likeness(near) <= (near.len() / 3).max(1)).then_some(near)
}
