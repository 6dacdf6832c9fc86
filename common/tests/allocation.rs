//! What hostile bytes cost in memory, counted by the allocator itself. One test, so that nothing else allocates.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;

use aim_common::inventory::{EncodedSection, Section, SectionTag};
use aim_common::protocol::{
    Ack, GaugeReport, Goodbye, GpuProcesses, Hello, Kind, LiveMode, NodeConditions, PathLoss, RenewRequest,
    RenewResponse, SeriesTable, SpoolBatch, Welcome,
};
use aim_common::wire::{FrameDecoder, Header, Message, ProtocolVersion, decode};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes allocated while the payload is received and refused or decoded.
fn cost<M: Message>(payload: &[u8]) -> usize {
    let length = u32::try_from(payload.len()).unwrap();
    let header = Header {
        protocol: ProtocolVersion(1),
        kind: M::KIND.number(),
        skippable: M::KIND.is_skippable(),
        length,
    };
    let counted = Region::new(COUNTED);
    let mut decoder = FrameDecoder::default();
    decoder.push(&header.to_bytes());
    decoder.push(payload);
    if let Ok(Some(frame)) = decoder.next_frame() {
        let _ = decode::<M>(&frame);
    }
    counted.change().bytes_allocated
}

fn cost_of_kind(kind: Kind, payload: &[u8]) -> usize {
    match kind {
        Kind::Hello => cost::<Hello>(payload),
        Kind::Welcome => cost::<Welcome>(payload),
        Kind::Goodbye => cost::<Goodbye>(payload),
        Kind::Ack => cost::<Ack>(payload),
        Kind::LiveMode => cost::<LiveMode>(payload),
        Kind::SeriesTable => cost::<SeriesTable>(payload),
        Kind::GaugeReport => cost::<GaugeReport>(payload),
        Kind::NodeConditions => cost::<NodeConditions>(payload),
        Kind::PathLoss => cost::<PathLoss>(payload),
        Kind::GpuProcesses => cost::<GpuProcesses>(payload),
        Kind::SpoolBatch => cost::<SpoolBatch>(payload),
        Kind::RenewRequest => cost::<RenewRequest>(payload),
        Kind::RenewResponse => cost::<RenewResponse>(payload),
    }
}

fn cost_of_section(tag: SectionTag, bytes: &[u8]) -> usize {
    let encoded = EncodedSection { tag, bytes: bytes.to_vec().try_into().unwrap() };
    let counted = Region::new(COUNTED);
    let _ = Section::decode(&encoded);
    counted.change().bytes_allocated
}

#[test]
fn inj_01_memory_follows_the_bytes_received_and_not_the_bytes_claimed() {
    // A list or text of 2^60 elements, or of as many as are allowed, none of which follows.
    let beyond = [&[253][..], &(1_u64 << 60).to_le_bytes()].concat();
    let allowed = [&[251][..], &4096_u16.to_le_bytes()].concat();
    for lead in [&[][..], &[0], &[1], &[0, 0], &[0, 1], &[1, 0], &[0, 0, 0], &[0, 1, 0], &[1, 1, 1]] {
        for claim in [&beyond, &allowed] {
            let payload = [lead, claim].concat();
            for kind in Kind::ALL {
                let cost = cost_of_kind(*kind, &payload);
                assert!(cost < 64 * 1024, "{kind:?} after {lead:?} cost {cost} bytes");
            }
            for (tag, name) in Section::ALL {
                let cost = cost_of_section(*tag, &payload);
                assert!(cost < 64 * 1024, "section {name} after {lead:?} cost {cost} bytes");
            }
        }
    }
    // The longest lists of the shortest elements: at most 32 bytes of memory, copies included, for a byte received.
    let count = |elements: u16| [&[251][..], &elements.to_le_bytes()].concat();
    for (kind, payload) in [
        (Kind::SeriesTable, [count(4096), [1, 0].repeat(4096)].concat()),
        (Kind::GaugeReport, [vec![0, 0, 0, 0], count(4096), [0, 2, 0].repeat(4096)].concat()),
        (Kind::SpoolBatch, [vec![16], vec![0; 16], vec![200], longest_events(200)].concat()),
    ] {
        let cost = cost_of_kind(kind, &payload);
        let allowed = 32 * payload.len() + 64 * 1024;
        assert!(cost < allowed, "{kind:?} of {} bytes cost {cost}, over {allowed}", payload.len());
        assert!(cost > payload.len(), "{kind:?} was refused before it was read");
    }
}

/// Events with as many empty attributes as are allowed.
fn longest_events(count: u8) -> Vec<u8> {
    let event =
        |sequence: u8| [vec![sequence, 0, 1, 0, 0, 16], vec![0; 16], vec![0, 0, 32], vec![0; 64]].concat();
    (0..count).flat_map(event).collect()
}
