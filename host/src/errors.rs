//! What is wrong, all of it at once.

use core::error::Error;
use core::fmt::{self, Debug, Display};

/// Everything that is wrong; never empty. Displayed as one line each.
#[derive(Debug)]
pub struct Errors<E>(pub Vec<E>);

impl<E: Display> Display for Errors<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl<E: Debug + Display> Error for Errors<E> {}
