//! What the cache answers, what it stores, and what it never shows to anybody else: a real sidecar
//! between a client and an application whose answers the test writes.

mod answers;
mod assets;
mod collapsing;
mod confirming;
mod deception;
mod explain;
mod frameworks;
mod pages;
mod poisoning;
mod purge;
mod streams;
