//! Names to text: each name is a box of numbers, and boxes that differ in one place only are joined there.

use std::collections::HashMap;
use std::fmt::Write;

/// Numbers of one name that are folded, counted from its end: rack, chassis and node at most.
const MAX_DIMENSIONS: usize = 3;
/// Longer runs of digits are taken as text.
const MAX_DIGITS: usize = 18;

/// A piece of a name. The order of the variants and fields is the order in which a person counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    Numbers(Vec<Number>),
    Text(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    value: u64,
    width: usize,
}

pub(super) fn fold<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut boxes: Vec<Vec<Piece<'a>>> = names.map(split).collect();
    boxes.sort_unstable();
    boxes.dedup();
    for from_end in 0..MAX_DIMENSIONS {
        boxes = join(boxes, from_end);
    }
    let terms: Vec<String> = boxes.iter().map(|pieces| write_pieces(pieces, None)).collect();
    terms.join(",")
}

/// Cuts a name at the borders of its runs of digits.
fn split(name: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let len = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(len);
        pieces.push(match piece.parse() {
            Ok(value) if digits && len <= MAX_DIGITS => Piece::Numbers(vec![Number { value, width: len }]),
            _ => Piece::Text(piece),
        });
        rest = tail;
    }
    pieces
}

/// Joins the boxes that are equal but for one run of numbers, the `from_end`-th from the end.
fn join(boxes: Vec<Vec<Piece<'_>>>, from_end: usize) -> Vec<Vec<Piece<'_>>> {
    let mut joined: Vec<Vec<Piece<'_>>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for mut pieces in boxes {
        let Some(place) = numbers_from_end(&pieces, from_end) else {
            joined.push(pieces);
            continue;
        };
        match places.entry(write_pieces(&pieces, Some(place))) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(joined.len());
                joined.push(pieces);
            }
            std::collections::hash_map::Entry::Occupied(occupied) => {
                let former = joined.get_mut(*occupied.get()).and_then(|former| former.get_mut(place));
                if let (Some(Piece::Numbers(all)), Some(Piece::Numbers(more))) =
                    (former, pieces.get_mut(place))
                {
                    all.append(more);
                }
            }
        }
    }
    joined
}

fn numbers_from_end(pieces: &[Piece<'_>], from_end: usize) -> Option<usize> {
    let places = pieces.iter().enumerate().rev();
    places.filter(|(_, piece)| matches!(piece, Piece::Numbers(_))).map(|(place, _)| place).nth(from_end)
}

/// Writes a box; `blank` is left out as `[]`, which makes the key by which boxes are joined.
fn write_pieces(pieces: &[Piece<'_>], blank: Option<usize>) -> String {
    let mut text = String::new();
    for (place, piece) in pieces.iter().enumerate() {
        match piece {
            _ if blank == Some(place) => text.push_str("[]"),
            Piece::Text(literal) => text.push_str(literal),
            Piece::Numbers(numbers) => text.push_str(&write_numbers(numbers)),
        }
    }
    text
}

fn write_numbers(numbers: &[Number]) -> String {
    if let [Number { value, width }] = *numbers {
        return format!("{value:0width$}");
    }
    let mut text = String::from("[");
    let mut rest = numbers;
    while let Some((first, tail)) = rest.split_first() {
        let run = tail.iter().zip(1..).take_while(|(next, step)| next.follows(*first, *step)).count();
        let comma = if text.len() > 1 { "," } else { "" };
        let width = first.width;
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{:0width$}", first.value);
        if run > 0 {
            let _ = write!(text, "-{:0width$}", first.value + run as u64);
        }
        rest = tail.get(run..).unwrap_or_default();
    }
    text.push(']');
    text
}

impl Number {
    /// It is the `step`-th after `first` and would be written with the same padding.
    fn follows(self, first: Self, step: u64) -> bool {
        let digits = self.value.checked_ilog10().map_or(1, |log| log as usize + 1);
        first.value.checked_add(step) == Some(self.value) && self.width == digits.max(first.width)
    }
}
