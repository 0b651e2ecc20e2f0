//! The store on a real RocksDB, in directories of its own.

mod children;
mod damage;
mod directory;
mod model;
mod store;
mod support;
mod thread;
