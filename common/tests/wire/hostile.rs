//! Bytes of a hostile peer: never a panic, never a second writing of the same message.

use aim_common::protocol::{Ack, Kind, KindNumber, SeriesTable};
use aim_common::wire::{
    DecodeError, Frame, FrameDecoder, FrameError, HEADER_LEN, Header, MAX_PAYLOAD, Message, decode,
};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::samples::{self, Sample, one_frame};

/// A frame of this kind around the payload, as an honest envelope would have it.
fn frame(kind: Kind, payload: &[u8]) -> Frame {
    let header = Header {
        protocol: samples::PROTOCOL,
        kind: kind.number(),
        skippable: kind.is_skippable(),
        length: u32::try_from(payload.len()).unwrap(),
    };
    Frame { header, payload: payload.to_vec() }
}

fn bytes_of(frame: &Frame) -> Vec<u8> {
    [&frame.header.to_bytes()[..], &frame.payload].concat()
}

fn framed_samples() -> impl Iterator<Item = &'static Sample> {
    samples::all().iter().filter(|sample| sample.kind.is_some())
}

/// Either the bytes are refused, or they are what we would have written ourselves.
fn refused_or_canonical(sample: &Sample, bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Some(again) = (sample.again)(bytes) {
        prop_assert_eq!(&again, bytes, "{}: two writings of one message", sample.name);
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index),
    Cut(Index),
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), prop_oneof![any::<u8>(), 250_u8..=255])
            .prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (any::<Index>(), proptest::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, more)| Mutation::Insert(at, more)),
        any::<Index>().prop_map(Mutation::Remove),
        any::<Index>().prop_map(Mutation::Cut),
    ]
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn inj_01_random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = FrameDecoder::default();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_frame() {}
        for sample in framed_samples() {
            let honest = frame(sample.kind.unwrap(), &bytes);
            refused_or_canonical(sample, &bytes_of(&honest))?;
        }
    }

    #[test]
    fn inj_01_changed_messages_are_refused_or_canonical(
        which in any::<Index>(),
        mutations in proptest::collection::vec(any_mutation(), 1..4),
    ) {
        let sample = which.get(samples::all());
        let mut bytes = sample.bytes.clone();
        for mutation in &mutations {
            mutation.apply(&mut bytes);
        }
        // The envelope's length is made to fit again, so that the payload is reached.
        if let (Some(kind), Some(payload)) = (sample.kind, bytes.get(HEADER_LEN..)) {
            refused_or_canonical(sample, &bytes_of(&frame(kind, payload)))?;
        }
        if sample.kind.is_none() {
            refused_or_canonical(sample, &bytes)?;
        }
    }

    #[test]
    fn frames_do_not_depend_on_how_bytes_arrive(cuts in proptest::collection::vec(any::<Index>(), 0..6)) {
        let all: Vec<u8> = framed_samples().flat_map(|sample| sample.bytes.clone()).collect();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len())).collect();
        places.sort_unstable();
        places.push(all.len());
        let mut decoder = FrameDecoder::default();
        let mut frames = Vec::new();
        let mut from = 0;
        for place in places {
            decoder.push(all.get(from..place).unwrap());
            from = place;
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(bytes_of(&frame));
            }
        }
        prop_assert!(!decoder.is_partial());
        prop_assert_eq!(frames.concat(), all);
    }
}

#[test]
fn inj_04_trailing_bytes_are_refused_for_every_kind() {
    for sample in framed_samples() {
        let payload = [&one_frame(&sample.bytes).unwrap().payload[..], &[0]].concat();
        assert_eq!(
            (sample.again)(&bytes_of(&frame(sample.kind.unwrap(), &payload))),
            None,
            "{}",
            sample.name
        );
    }
    for sample in samples::all().iter().filter(|sample| sample.kind.is_none()) {
        assert_eq!((sample.again)(&[&sample.bytes[..], &[0]].concat()), None, "{}", sample.name);
    }
}

#[test]
fn inj_04_longer_writings_of_a_number_are_refused() {
    let ack = framed_samples().find(|sample| sample.name == "ack").unwrap();
    let payload = one_frame(&ack.bytes).unwrap().payload;
    let id = payload.get(..17).unwrap();
    let read = |number: &[u8]| decode::<Ack>(&frame(Kind::Ack, &[id, number].concat()));
    assert_eq!(read(&[7]).unwrap().sequence, 7);
    for longer in [&[251, 7, 0][..], &[252, 7, 0, 0, 0], &[253, 7, 0, 0, 0, 0, 0, 0, 0]] {
        assert!(matches!(read(longer), Err(DecodeError::NotCanonical { .. })), "{longer:?}");
    }
}

#[test]
fn a_frame_of_another_kind_is_refused() {
    let frame = frame(Kind::Ack, &[]);
    assert!(matches!(
        decode::<SeriesTable>(&frame),
        Err(DecodeError::Kind { expected: Kind::SeriesTable, .. })
    ));
    assert_eq!(SeriesTable::KIND, Kind::SeriesTable);
}

fn envelope(kind: u16, flags: u16, length: u32) -> [u8; HEADER_LEN] {
    let header = Header { protocol: samples::PROTOCOL, kind: KindNumber(kind), skippable: false, length };
    let mut bytes = header.to_bytes();
    bytes[6..8].copy_from_slice(&flags.to_le_bytes());
    bytes
}

#[test]
fn inj_01_lengths_are_checked_before_any_payload_arrives() {
    for kind in Kind::ALL {
        let number = kind.number().0;
        let max = kind.max_payload();
        assert!(Header::from_bytes(envelope(number, 0, max)).is_ok());
        for claimed in [max + 1, u32::MAX] {
            assert_eq!(
                Header::from_bytes(envelope(number, 0, claimed)),
                Err(FrameError::TooLong { claimed, max })
            );
        }
        assert!(max <= MAX_PAYLOAD);
    }
    let claimed = MAX_PAYLOAD + 1;
    assert_eq!(
        Header::from_bytes(envelope(9999, 1, claimed)),
        Err(FrameError::TooLong { claimed, max: MAX_PAYLOAD })
    );
}

#[test]
fn unknown_kinds_close_unless_they_may_be_skipped() {
    assert_eq!(Header::from_bytes(envelope(9999, 0, 0)), Err(FrameError::UnknownKind(KindNumber(9999))));
    assert_eq!(Header::from_bytes(envelope(1, 2, 0)), Err(FrameError::Flags(2)));
    let mut wrong = envelope(1, 0, 0);
    wrong[0] ^= 1;
    assert_eq!(Header::from_bytes(wrong), Err(FrameError::Magic));

    let ack = framed_samples().find(|sample| sample.name == "ack").unwrap();
    let mut decoder = FrameDecoder::default();
    decoder.push(&envelope(9999, 1, 3));
    decoder.push(&[1, 2, 3]);
    decoder.push(&ack.bytes);
    assert_eq!(decoder.next_frame().unwrap().unwrap().header.kind, Kind::Ack.number());
    assert_eq!(decoder.skipped(), 1);
}
