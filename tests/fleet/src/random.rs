//! Seeded numbers: the same seed makes the same fleet, so that a run can be repeated. Nothing secret comes from here.

/// `SplitMix64`: one step for each number, and good enough to scatter.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

/// Scatters a number.
pub(crate) const fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// One number of two.
pub(crate) const fn join(one: u64, other: u64) -> u64 {
    scatter(scatter(one) ^ other)
}

impl Random {
    /// Of this seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        let number = scatter(self.0);
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        number
    }

    /// A number below the limit; 0 where that is 0.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }
}
