//! Memory that is free goes back to the system when somebody frees much of it at once.
//!
//! The allocator gives it back by and by, while it is asked for more. After a purge nobody may ask.

// Linked for the function below, also where another allocator is in use.
use mimalloc as _;

#[expect(
    unsafe_code,
    reason = "the crate has no wrapper for it; it takes any argument, on any thread"
)]
unsafe extern "C" {
    safe fn mi_collect(force: bool);
}

/// Gives back what this thread has freed, and what others have of which nothing is in use.
pub fn give_back() {
    mi_collect(true);
}
