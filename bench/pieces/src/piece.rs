//! A piece: something to be done again and again, by name.

use std::{fmt, sync::Arc};

/// One of its turns.
pub type Work = Box<dyn FnMut()>;

/// What can be made ready, and then repeated.
#[derive(Clone)]
pub struct Piece {
    name: String,
    make: Arc<dyn Fn() -> Work + Send + Sync>,
}

impl Piece {
    /// `make` makes everything ready; what it returns is one turn.
    pub fn new(name: impl Into<String>, make: impl Fn() -> Work + Send + Sync + 'static) -> Self {
        Piece { name: name.into(), make: Arc::new(make) }
    }

    /// Its name, which the committed counts know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ready to begin.
    pub fn work(&self) -> Work {
        (self.make)()
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
