//! EventStreamCore on a machine with an operating system: the node and the client.
