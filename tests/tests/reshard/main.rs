//! `reshard` on real PostgreSQL servers.

mod sessions;
