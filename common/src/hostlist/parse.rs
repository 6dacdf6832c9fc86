//! Text to names: cut into terms, count what they stand for, and only then write it out.

use std::collections::HashSet;

use super::{HostListError, MAX_NAMES, MAX_TEXT, Problem};
use crate::identity::NodeName;

/// Most digits of a number, so that every number fits into 64 bits.
const MAX_DIGITS: usize = 18;

/// A piece of a term.
enum Part<'a> {
    Literal(&'a str),
    Numbers(Vec<Range>),
}

/// Numbers from `start` to `end`, both included, with at least `width` digits.
struct Range {
    start: u64,
    end: u64,
    width: usize,
}

impl Range {
    fn count(&self) -> u64 {
        self.end - self.start + 1
    }
}

/// A name, or many by brackets, and the byte where it begins.
struct Term<'a> {
    at: usize,
    parts: Vec<Part<'a>>,
}

impl Term<'_> {
    /// How many names it stands for, stopping at `u64::MAX`.
    fn count(&self) -> u64 {
        self.parts.iter().fold(1, |product: u64, part| match part {
            Part::Literal(_) => product,
            Part::Numbers(ranges) => product.saturating_mul(ranges.iter().map(Range::count).sum()),
        })
    }

    /// Every name, the last brackets counting fastest.
    fn expand(&self) -> Vec<String> {
        let mut names = vec![String::new()];
        for part in &self.parts {
            match part {
                Part::Literal(text) => names.iter_mut().for_each(|name| name.push_str(text)),
                Part::Numbers(ranges) => {
                    names = names.iter().flat_map(|name| with_numbers(name, ranges)).collect();
                }
            }
        }
        names
    }
}

fn with_numbers(name: &str, ranges: &[Range]) -> impl Iterator<Item = String> {
    ranges.iter().flat_map(move |range| {
        (range.start..=range.end).map(move |number| format!("{name}{number:0width$}", width = range.width))
    })
}

pub(super) fn parse(text: &str) -> Result<Vec<NodeName>, HostListError> {
    if text.len() > MAX_TEXT {
        return Err(HostListError::TextTooLong { len: text.len() });
    }
    let terms = Cursor { text, at: 0 }.terms()?;
    let count = terms.iter().fold(0_u64, |sum, term| sum.saturating_add(term.count()));
    if count > MAX_NAMES as u64 {
        return Err(HostListError::TooManyNames);
    }
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for term in &terms {
        for name in term.expand() {
            let name: NodeName =
                name.parse().map_err(|error| error_at(text, term.at, Problem::Name(error)))?;
            if seen.insert(name.canonical()) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// A problem at a byte, told by its character.
fn error_at(text: &str, at: usize, problem: Problem) -> HostListError {
    let character = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
    HostListError::At { character, problem }
}

/// A place in the text.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn skip_while(&mut self, matches: impl Fn(char) -> bool) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len = rest.find(|c| !matches(c)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn fail<T>(&self, at: usize, problem: Problem) -> Result<T, HostListError> {
        Err(error_at(self.text, at, problem))
    }

    /// Terms with one comma or any white space between two of them.
    fn terms(mut self) -> Result<Vec<Term<'a>>, HostListError> {
        let mut terms = Vec::new();
        let mut comma = None;
        loop {
            self.skip_while(char::is_whitespace);
            let at = self.at;
            match self.peek() {
                None => break,
                Some(',') if terms.is_empty() || comma.is_some() => {
                    return self.fail(at, Problem::MissingName);
                }
                Some(',') => {
                    self.take(',');
                    comma = Some(at);
                }
                Some(_) => {
                    terms.push(Term { at, parts: self.parts()? });
                    comma = None;
                }
            }
        }
        match comma {
            Some(at) => self.fail(at, Problem::MissingName),
            None if terms.is_empty() => Err(HostListError::Empty),
            None => Ok(terms),
        }
    }

    /// One term, up to a comma or white space outside brackets.
    fn parts(&mut self) -> Result<Vec<Part<'a>>, HostListError> {
        let mut parts = Vec::new();
        loop {
            match self.peek() {
                Some('[') => parts.push(Part::Numbers(self.brackets()?)),
                Some(']') => return self.fail(self.at, Problem::Unopened),
                Some(c) if c != ',' && !c.is_whitespace() => {
                    let literal = self.skip_while(|c| !matches!(c, '[' | ']' | ',') && !c.is_whitespace());
                    parts.push(Part::Literal(literal));
                }
                _ => return Ok(parts),
            }
        }
    }

    fn brackets(&mut self) -> Result<Vec<Range>, HostListError> {
        let open = self.at;
        self.take('[');
        let mut ranges = Vec::new();
        loop {
            ranges.push(self.range(open)?);
            let at = self.at;
            if self.take(']') {
                return Ok(ranges);
            }
            if !self.take(',') {
                return match self.peek() {
                    None => self.fail(open, Problem::Unclosed),
                    Some('[') => self.fail(at, Problem::Nested),
                    Some(_) => self.fail(at, Problem::NotANumber),
                };
            }
        }
    }

    fn range(&mut self, open: usize) -> Result<Range, HostListError> {
        let (start, width) = self.number(open)?;
        if !self.take('-') {
            return Ok(Range { start, end: start, width });
        }
        let at = self.at;
        let (end, end_width) = self.number(open)?;
        if end < start {
            return self.fail(at, Problem::Backwards);
        }
        let expected = format!("{end:0width$}");
        if expected.len() != end_width {
            return self.fail(at, Problem::Padding { expected });
        }
        Ok(Range { start, end, width })
    }

    /// A number and its digits.
    fn number(&mut self, open: usize) -> Result<(u64, usize), HostListError> {
        let at = self.at;
        let digits = self.skip_while(|c| c.is_ascii_digit());
        if digits.len() <= MAX_DIGITS
            && let Ok(number) = digits.parse()
        {
            return Ok((number, digits.len()));
        }
        match self.peek() {
            None => self.fail(open, Problem::Unclosed),
            Some('[') => self.fail(at, Problem::Nested),
            Some(_) => self.fail(at, Problem::NotANumber),
        }
    }
}
