//! Random moments that a printed seed repeats.

/// A small generator.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From `AIM_SEED` or from the system; the seed is printed.
    pub fn printed() -> Self {
        let seed = std::env::var("AIM_SEED").map_or_else(|_| fresh(), |seed| seed.parse().unwrap());
        eprintln!("AIM_SEED={seed}");
        Self(seed)
    }

    /// A number below the limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn fresh() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}
