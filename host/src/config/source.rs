//! Where settings come from, and which one wins.

use super::{ConfigError, ENVIRONMENT_PREFIX, Key};
use core::fmt;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the configuration file.
    File(PathBuf),
    /// In this variable of the environment.
    Environment(String),
    /// On the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Values by setting, not checked yet. Sources are to be added in ascending order of their weight.
#[derive(Debug, Default)]
pub struct Settings {
    values: BTreeMap<Key, (String, Origin)>,
    errors: Vec<ConfigError>,
}

impl Settings {
    /// No values: every setting has its default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a TOML file. Its errors are kept for [`Settings::check`].
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) => {
                self.errors.push(ConfigError::File { path: path.to_owned(), source });
                return self;
            }
        };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                self.errors.push(ConfigError::Syntax { path: path.to_owned(), message: error.to_string() });
                return self;
            }
        };
        for (name, value) in table {
            let text = match value {
                toml::Value::String(text) => text,
                other => other.to_string(),
            };
            let origin = Origin::File(path.to_owned());
            match Key::from_name(&name) {
                Some(Key::Dir) => self.set(Key::Dir, beside(path, &text), origin),
                Some(key) => self.set(key, text, origin),
                None => self.errors.push(ConfigError::Unknown { name, origin }),
            }
        }
        self
    }

    /// Adds the variables that begin with [`ENVIRONMENT_PREFIX`]; others are passed over.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        for (variable, text) in variables {
            let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX).map(str::to_ascii_lowercase) else { continue };
            let origin = Origin::Environment(variable);
            match Key::from_name(&name) {
                Some(key) => self.set(key, text, origin),
                None => self.errors.push(ConfigError::Unknown { name, origin }),
            }
        }
        self
    }

    /// Adds a flag of the command line, where it was given.
    #[must_use]
    pub fn flag(mut self, key: Key, text: Option<String>) -> Self {
        if let Some(text) = text {
            self.set(key, text, Origin::Flag);
        }
        self
    }

    pub(super) fn into_parts(self) -> (BTreeMap<Key, (String, Origin)>, Vec<ConfigError>) {
        (self.values, self.errors)
    }

    fn set(&mut self, key: Key, text: String, origin: Origin) {
        self.values.insert(key, (text, origin));
    }
}

/// A relative path in a file is relative to the file, wherever the node is started from.
fn beside(file: &Path, path: &str) -> String {
    file.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path).to_string_lossy().into_owned())
}
