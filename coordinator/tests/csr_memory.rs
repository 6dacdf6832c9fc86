//! What a hostile certificate request costs in memory, counted by the allocator itself. One test, so that nothing else
//! allocates.

use std::alloc::System;

use aim_coordinator::keyvault::csr::{MAX_CSR_BYTES, public_key_of_der, public_key_of_pem};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The statement allows 16 MiB; nothing that is parsed here needs a fortieth of it.
const ALLOWED: usize = 16 * 1024 * 1024;
const NEEDED: usize = 400 * 1024;

/// Bytes allocated in all while the input is taken or refused: more than were ever held at once.
fn cost(take: impl FnOnce()) -> usize {
    let counted = Region::new(COUNTED);
    take();
    counted.change().bytes_allocated
}

/// A pseudo-random sequence, so that a failure can be repeated.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn pki_05_no_request_costs_more_than_its_bound() {
    let key = rcgen::KeyPair::generate().unwrap();
    let good = rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let mut worst = 0;
    // As many elements as fit, nested, side by side, and each claiming more than there is.
    for unit in [
        &[0x30, 0x80][..],
        &[0x30, 0x00],
        &[0x02, 0x01, 0x00],
        &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x31, 0x82],
    ] {
        let mut input = unit.repeat(MAX_CSR_BYTES / unit.len());
        worst = worst.max(cost(|| drop(public_key_of_der(&input))));
        input.splice(0..0, good.iter().copied().take(20));
        input.truncate(MAX_CSR_BYTES);
        worst = worst.max(cost(|| drop(public_key_of_der(&input))));
    }
    let mut state = 42;
    for _ in 0..5_000 {
        let mut input = good.clone();
        for _ in 0..=next(&mut state) % 4 {
            let at = usize::try_from(next(&mut state)).unwrap() % input.len();
            input[at] = next(&mut state).to_le_bytes()[0];
        }
        worst = worst.max(cost(|| drop(public_key_of_der(&input))));
    }
    // Beyond 8 KiB nothing is parsed, and nothing is allocated for it.
    let huge = [good, vec![0x30; 2 * ALLOWED]].concat();
    assert!(cost(|| assert!(public_key_of_der(&huge).is_err())) < 1024);
    let text = format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n", "MIIB".repeat(ALLOWED / 2));
    assert!(cost(|| assert!(public_key_of_pem(&text).is_err())) < 1024);
    assert!(worst < NEEDED && NEEDED < ALLOWED, "one request took {worst} bytes");
}
