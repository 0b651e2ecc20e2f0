//! The store on a real RocksDB, in directories of its own.

mod store;
mod support;
