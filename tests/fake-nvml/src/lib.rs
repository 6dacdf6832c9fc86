//! A stand-in for `libnvidia-ml.so.1`: NVML's C ABI, answered from a scenario file.
//!
//! Enters: `libnvidia-ml.scenario.json` beside the library (or the file named by `AIM_FAKE_NVML_SCENARIO`), read again
//! whenever it changes, so that cards fall off the bus and come back while a program runs. Leaves: values, NVML's error
//! codes, delays and hangs. Never: touches a real device.

mod abi;
mod device;
mod install;
mod mig;
mod nvlink;
mod scenario;
mod system;

pub use install::Installed;
