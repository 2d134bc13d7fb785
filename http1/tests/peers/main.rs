//! Both ends of a connection against peers that a test writes byte by byte.

mod client;
mod corpus;
mod life;
mod patience;
mod pool;
mod turns;
mod wire;
