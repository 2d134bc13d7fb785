//! Everything that passes through the sidecar without being stored or queued: protocols, connections,
//! shards, trust in others, and the life of the process.

mod cache;
mod calls;
mod changes;
mod draining;
mod fallback;
mod grpc;
mod helpers;
mod http2;
mod large;
mod loops;
mod overload;
mod passing;
mod reaching;
mod shards;
mod signed;
mod tls;
mod traces;
mod training;
mod trusted;
mod unchanged;
