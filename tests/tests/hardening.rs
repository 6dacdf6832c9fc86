//! What the linker and the system make of the programs: ELF headers, limits, memory (SUP-04, LOG-06).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use aim_tests::process::program;
use aim_tests::{Agent, Coordinator};
use tempfile::TempDir;

const PROGRAMS: [&str; 3] = ["aim-agent", "aim-coordinator", "aimctl"];

/// What the loader reads of an ELF file of 64 bits, little endian.
struct Elf {
    bytes: Vec<u8>,
}

/// Kind of a program header (elf.h).
const PT_DYNAMIC: u64 = 2;
const PT_GNU_STACK: u64 = 0x6474_e551;
const PT_GNU_RELRO: u64 = 0x6474_e552;
const PF_X: u64 = 1;
/// Kind of an entry of the dynamic section.
const DT_RPATH: u64 = 15;
const DT_BIND_NOW: u64 = 24;
const DT_RUNPATH: u64 = 29;
const DT_FLAGS: u64 = 30;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_BIND_NOW: u64 = 8;
const DF_1_NOW: u64 = 1;
const DF_1_PIE: u64 = 0x0800_0000;
const ET_DYN: u64 = 3;
/// May lock memory beyond the limit (capabilities(7)).
const CAP_IPC_LOCK: u64 = 1 << 14;

impl Elf {
    fn of(name: &str) -> Self {
        let elf = Self { bytes: fs::read(program(name)).unwrap() };
        assert_eq!(elf.bytes[..6], [0x7f, b'E', b'L', b'F', 2, 1], "{name} is no ELF file of 64 bits");
        elf
    }

    fn number(&self, at: u64, width: usize) -> u64 {
        let at = usize::try_from(at).unwrap();
        self.bytes[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Kind, flags, offset and size of each program header.
    fn segments(&self) -> Vec<(u64, u64, u64, u64)> {
        let (table, size, count) = (self.number(32, 8), self.number(54, 2), self.number(56, 2));
        let headers = (0..count).map(|index| table + index * size);
        headers
            .map(|at| {
                (self.number(at, 4), self.number(at + 4, 4), self.number(at + 8, 8), self.number(at + 32, 8))
            })
            .collect()
    }

    fn dynamic(&self) -> Vec<(u64, u64)> {
        let (_, _, offset, size) =
            self.segments().into_iter().find(|segment| segment.0 == PT_DYNAMIC).unwrap();
        (0..size / 16)
            .map(|index| offset + index * 16)
            .map(|at| (self.number(at, 8), self.number(at + 8, 8)))
            .collect()
    }
}

#[test]
fn sup_04_programs_are_position_independent_fully_relro_and_look_nowhere_for_libraries() {
    for name in PROGRAMS {
        let elf = Elf::of(name);
        let (segments, dynamic) = (elf.segments(), elf.dynamic());
        let has = |tag, bit| dynamic.iter().any(|(known, value)| *known == tag && value & bit != 0);
        assert!(
            elf.number(16, 2) == ET_DYN && has(DT_FLAGS_1, DF_1_PIE),
            "{name} is not position independent"
        );
        assert!(segments.iter().any(|segment| segment.0 == PT_GNU_RELRO), "{name} has no RELRO");
        let now = has(DT_FLAGS, DF_BIND_NOW) || has(DT_FLAGS_1, DF_1_NOW);
        let now = now || dynamic.iter().any(|(tag, _)| *tag == DT_BIND_NOW);
        assert!(now, "{name} binds late: its RELRO is partial");
        let search = dynamic.iter().any(|(tag, _)| [DT_RPATH, DT_RUNPATH].contains(tag));
        assert!(!search, "{name} has a path of its own for libraries");
        let stack = segments.iter().find(|segment| segment.0 == PT_GNU_STACK);
        assert!(stack.is_some_and(|(_, flags, ..)| flags & PF_X == 0), "{name}'s stack is executable");
    }
}

/// The programs that the tests run, and so those that are released, have no door for tests.
#[test]
fn sup_04_programs_hold_no_test_hook() {
    for name in PROGRAMS {
        let bytes = fs::read(program(name)).unwrap();
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        for hook in ["AIM_TEST", "AIM_FAULT", "AIM_INJECT", "AIM_DEBUG", "AIM_REGENERATE", "AIM_WRITE_DOCS"] {
            assert!(!text.contains(hook), "{name} holds {hook:?}");
        }
        // The search sees what is there.
        assert!(
            text.contains("AIM_AGENT") || text.contains("AIM_COORDINATOR") || text.contains("AIM_"),
            "{name}"
        );
    }
}

fn limit_of(pid: u32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {limits}")).trim().to_owned()
}

#[test]
fn log_06_neither_program_leaves_a_core_file_nor_is_swapped_where_that_is_allowed() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    for (name, program) in [("coordinator", coordinator.program()), ("agent", agent.program())] {
        let core = limit_of(program.pid(), "Max core file size");
        assert!(core.starts_with("0 ") && core.split_whitespace().nth(1) == Some("0"), "{name}: {core}");
        let locked = program.status_kib("VmLck");
        let unlimited = limit_of(program.pid(), "Max locked memory").starts_with("unlimited");
        let held = u64::from_str_radix(&program.status("CapEff"), 16).unwrap();
        let allowed = unlimited || held & CAP_IPC_LOCK != 0;
        assert_eq!(locked > 0, allowed, "{name}: {locked} KiB locked");
        if allowed {
            // What was not used is not made resident for it.
            let (all, resident) = (program.status_kib("VmSize"), program.status_kib("VmRSS"));
            assert!(resident < all / 2, "{name}: {resident} of {all} KiB resident");
        }
    }
}
