//! Single-producer single-consumer ring.
