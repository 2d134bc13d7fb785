//! Slow requests that become jobs: queued, carried out by a consumer, and looked at by their caller.
//! Over the embedded stores, and over SQS and S3 in emulators that fail on demand.

mod absence;
mod consumers;
mod endings;
mod faults;
mod forms;
mod full_disk;
mod interop;
mod jobs;
mod keys;
mod kills;
mod offload;
mod outages;
mod owners;
mod producers;
mod refusals;
mod replays;
mod sites;
mod slow;
mod sqs;
mod uploads;
mod waits;
