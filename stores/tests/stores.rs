//! One contract for both queues and one for both stores of results, against real processes; and
//! what only the embedded ones promise.

mod stores {
    #[cfg(feature = "aws")]
    mod aws;
    mod directory;
    mod embedded;
    #[cfg(feature = "aws")]
    mod emulator;
    #[cfg(feature = "aws")]
    mod peers;
    mod queue_contract;
    mod results_contract;
}
