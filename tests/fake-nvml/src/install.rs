//! For tests: the built library in a folder of its own, with a scenario beside it.

use std::io;
use std::path::{Path, PathBuf};

/// The library as one test uses it.
#[derive(Debug)]
pub struct Installed {
    /// To be given as `gpu.nvml_library`.
    pub library: PathBuf,
    scenario: PathBuf,
}

impl Installed {
    /// Copies the library that was built with the running test into `folder`.
    pub fn into_folder(folder: &Path) -> io::Result<Self> {
        let test = std::env::current_exe()?;
        let built = test.with_file_name("libnvidia_ml.so");
        let library = folder.join("libnvidia-ml.so.1");
        std::fs::copy(&built, &library)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", built.display())))?;
        Ok(Self { library, scenario: folder.join(crate::scenario::FILE_NAME) })
    }

    /// Replaces the scenario, at once and as a whole.
    pub fn scenario(&self, text: &str) -> io::Result<()> {
        let new = self.scenario.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &self.scenario)
    }
}
