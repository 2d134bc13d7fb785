//! The allocator: mimalloc, asked in the way that is cheapest to it.
//!
//! Memory that is free goes back to the system when somebody frees much of it at once, and when a thread
//! has little to do: the allocator gives it back in small steps, while it is asked for more, and then nobody
//! may ask.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// Blocks of this size and more begin at a multiple of it (`MI_MAX_ALIGN_SIZE`), smaller ones at a
/// multiple of a word.
const NATURAL_ALIGN: usize = 16;

/// How long a thread is looked at to find whether it has little to do.
const LOOK: Duration = Duration::from_secs(2);
/// Less than one part in so many of that time, that is.
const LITTLE: u32 = 20;

/// The crate's own asks for every block by its alignment, also where each block has it. That costs
/// twice the instructions, and above 1 KiB a larger block, of which a part is cut off.
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

/// Whether every block of so many bytes lies as it must.
fn is_natural(layout: Layout) -> bool {
    layout.align() <= size_of::<usize>()
        || (layout.align() <= NATURAL_ALIGN && layout.size() >= NATURAL_ALIGN)
}

#[expect(unsafe_code, reason = "an allocator can't be written without")]
// SAFETY: all is done by mimalloc, whose blocks may be freed and moved however they were asked for.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout) {
            return ffi::mi_malloc(layout.size()).cast();
        }
        // SAFETY: as the caller says.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout) {
            return ffi::mi_zalloc(layout.size()).cast();
        }
        // SAFETY: as the caller says.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { MiMalloc.dealloc(block, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // By the new size: a block that becomes too small for its alignment is none of these.
        let is_natural = Layout::from_size_align(size, layout.align()).is_ok_and(is_natural);
        if is_natural {
            // SAFETY: as the caller says.
            return unsafe { ffi::mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: as the caller says.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

/// Gives back what this thread has freed, and what others have of which nothing is in use.
pub fn give_back() {
    ffi::mi_collect(true);
}

/// Has every thread give memory back when one of them has freed much.
pub struct TrimSignal(watch::Sender<()>);

impl Default for TrimSignal {
    fn default() -> Self {
        Self(watch::channel(()).0)
    }
}

impl TrimSignal {
    /// Gives memory back that was freed here, and has the other threads do so.
    pub fn give_back(&self) {
        give_back();
        self.0.send_replace(());
    }

    /// Gives memory back whenever much was freed, on the thread that this runs on.
    pub async fn keep_giving_back(&self) {
        let mut freed = self.0.subscribe();
        while freed.changed().await.is_ok() {
            give_back();
        }
    }
}

/// Gives back what connections of this thread have let go of, each time that they have, once there is
/// little else to do: to go through a large cache takes milliseconds.
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

    /// Whether 64 blocks of one layout, taken together, all begin where they must; also when they have
    /// moved.
    #[expect(unsafe_code, reason = "it is the allocator that is asked")]
    fn lie_well(size: usize, align: usize, then: usize) -> bool {
        let layout = Layout::from_size_align(size, align).expect("a layout");
        // SAFETY: no layout is empty; each block is given back with the one it has.
        let blocks: Vec<*mut u8> = (0..64).map(|_| unsafe { alloc(layout) }).collect();
        let mut is_well = blocks.iter().all(|block| !block.is_null() && block.addr() % align == 0);
        for block in blocks {
            // SAFETY: as above.
            let moved = unsafe { realloc(block, layout, then) };
            is_well &= !moved.is_null() && moved.addr() % align == 0;
            let layout = Layout::from_size_align(then, align).expect("a layout");
            // SAFETY: as above.
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
