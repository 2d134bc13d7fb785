//! The allocator: mimalloc, called in its cheapest way.
//!
//! Free memory is returned to the system when much of it is freed at once, and when a thread has
//! little to do. The allocator itself returns it only in small steps during allocations, which may
//! then no longer happen.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// Blocks of at least this size are aligned to it (`MI_MAX_ALIGN_SIZE`), smaller ones to a word.
const NATURAL_ALIGN: usize = 16;

/// The time over which a thread's load is measured.
const LOOK: Duration = Duration::from_secs(2);
/// A thread has little to do when it was busy for less than one part in this many.
const LITTLE: u32 = 20;

/// The crate's own implementation always calls the aligned variant, even where natural alignment
/// suffices. That costs twice the instructions and, above 1 KiB, a larger block of which a part is
/// cut off.
pub struct Allocator;

#[expect(
    unsafe_code,
    reason = "the crate has no wrappers for these; they are mimalloc's documented C"
)]
mod ffi {
    use std::ffi::c_void;

    unsafe extern "C" {
        pub safe fn mi_collect(force: bool);
        pub safe fn mi_malloc(size: usize) -> *mut c_void;
        pub safe fn mi_zalloc(size: usize) -> *mut c_void;
        pub unsafe fn mi_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    }
}

/// Whether every block of this layout is naturally aligned.
fn is_natural(layout: Layout) -> bool {
    layout.align() <= size_of::<usize>()
        || (layout.align() <= NATURAL_ALIGN && layout.size() >= NATURAL_ALIGN)
}

#[expect(unsafe_code, reason = "an allocator can't be written without")]
// SAFETY: mimalloc does all the work, and frees and moves its blocks however they were allocated.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout) {
            return ffi::mi_malloc(layout.size()).cast();
        }
        // SAFETY: the caller upholds the contract.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout) {
            return ffi::mi_zalloc(layout.size()).cast();
        }
        // SAFETY: the caller upholds the contract.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract.
        unsafe { MiMalloc.dealloc(block, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The new size decides: a block that becomes too small for its alignment is not naturally
        // aligned.
        let is_natural = Layout::from_size_align(size, layout.align()).is_ok_and(is_natural);
        if is_natural {
            // SAFETY: the caller upholds the contract.
            return unsafe { ffi::mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: the caller upholds the contract.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

/// Returns the memory that this thread has freed, and unused segments of other threads.
pub fn give_back() {
    ffi::mi_collect(true);
}

/// Makes every thread return memory when one of them has freed much.
pub struct TrimSignal(watch::Sender<()>);

impl Default for TrimSignal {
    fn default() -> Self {
        Self(watch::channel(()).0)
    }
}

impl TrimSignal {
    /// Returns the memory that was freed here, and signals the other threads.
    pub fn give_back(&self) {
        give_back();
        self.0.send_replace(());
    }

    /// Returns memory whenever much was freed, on the thread that runs this.
    pub async fn keep_giving_back(&self) {
        let mut freed = self.0.subscribe();
        while freed.changed().await.is_ok() {
            give_back();
        }
    }
}

/// Returns the memory that connections of this thread have released, once the thread has little
/// else to do: going through a large cache takes milliseconds.
pub async fn give_back_when_idle(let_go: &Notify) {
    let runtime = Handle::current().metrics();
    loop {
        let_go.notified().await;
        loop {
            let before = runtime.worker_total_busy_duration(0);
            sleep(LOOK).await;
            if runtime.worker_total_busy_duration(0).saturating_sub(before) < LOOK / LITTLE {
                break;
            }
        }
        give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::{alloc, dealloc, realloc};

    #[global_allocator]
    static ALLOCATOR: Allocator = Allocator;

    /// Whether 64 blocks of one layout are all aligned, also after they were reallocated.
    #[expect(unsafe_code, reason = "it is the allocator that is asked")]
    fn lie_well(size: usize, align: usize, then: usize) -> bool {
        let layout = Layout::from_size_align(size, align).expect("a layout");
        // SAFETY: no layout is empty, and each block is freed with its own layout.
        let blocks: Vec<*mut u8> = (0..64).map(|_| unsafe { alloc(layout) }).collect();
        let mut is_well = blocks.iter().all(|block| !block.is_null() && block.addr() % align == 0);
        for block in blocks {
            // SAFETY: the block has this layout.
            let moved = unsafe { realloc(block, layout, then) };
            is_well &= !moved.is_null() && moved.addr() % align == 0;
            let layout = Layout::from_size_align(then, align).expect("a layout");
            // SAFETY: the block has this layout.
            unsafe { dealloc(moved, layout) };
        }
        is_well
    }

    #[test]
    fn every_block_begins_where_its_layout_says() {
        let sizes = [1, 7, 8, 9, 15, 16, 17, 24, 40, 100, 1000, 1025, 1700, 5000, 70_000, 700_000];
        for align in [1, 2, 4, 8, 16, 32, 64, 128, 4096] {
            for size in sizes {
                for then in sizes {
                    assert!(lie_well(size, align, then), "{size} at {align}, then {then}");
                }
            }
        }
    }
}
