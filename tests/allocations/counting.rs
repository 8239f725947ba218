//! An allocator that counts for each thread, and shows where those of one come from.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    cell::Cell,
    fs,
    sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst},
};

/// Allocations shown with their backtraces.
const SHOWN_MAX: usize = 2;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Threads that ever allocated, each with a slot of its own: its kernel number and its count.
static THREADS: [(AtomicI32, AtomicU64); 64] = [const { (AtomicI32::new(0), AtomicU64::new(0)) }; 64];
static SLOTS_TAKEN: AtomicUsize = AtomicUsize::new(0);
/// The slot whose allocations are shown, and how many more of them.
static SHOWN_SLOT: AtomicUsize = AtomicUsize::new(usize::MAX);
static SHOWN_LEFT: AtomicUsize = AtomicUsize::new(SHOWN_MAX);

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
    static SHOWING: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

/// Counts an allocation of this thread. Must not allocate itself, except to show a backtrace.
fn count(bytes: usize) {
    if SHOWING.get() {
        return;
    }
    if SLOT.get() == usize::MAX {
        SLOT.set(SLOTS_TAKEN.fetch_add(1, SeqCst));
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        if let Some((slot, _)) = THREADS.get(SLOT.get()) {
            slot.store(thread, SeqCst);
        }
    }
    let Some((_, count)) = THREADS.get(SLOT.get()) else { return };
    count.fetch_add(1, SeqCst);
    let spend = |left: usize| left.checked_sub(1);
    if SLOT.get() == SHOWN_SLOT.load(SeqCst) && SHOWN_LEFT.fetch_update(SeqCst, SeqCst, spend).is_ok() {
        SHOWING.set(true);
        eprintln!("it allocates {bytes} bytes:\n{}", Backtrace::force_capture());
        SHOWING.set(false);
    }
}

// SAFETY: every method calls the system's allocator with the arguments it was called with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// A thread whose allocations are counted.
#[derive(Clone, Copy)]
pub(super) struct Counted(usize);

impl Counted {
    /// The youngest thread of this process that has this name. It must have allocated before.
    pub(super) fn named(name: &str) -> Self {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let named = tasks
            .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name));
        let threads: Vec<i32> =
            named.map(|task| task.file_name().unwrap().to_str().unwrap().parse().unwrap()).collect();
        let youngest = *threads.iter().max().unwrap();
        let slot = THREADS.iter().position(|(thread, _)| thread.load(SeqCst) == youngest);
        Counted(slot.expect("it has allocated before"))
    }

    /// This thread.
    pub(super) fn this() -> Self {
        // So that it has a slot, whatever it did before.
        drop(std::hint::black_box(Box::new(0)));
        Counted(SLOT.get())
    }

    /// How often it has allocated.
    pub(super) fn allocations(self) -> u64 {
        THREADS[self.0].1.load(SeqCst)
    }

    /// How often it allocates during this, the first of which are shown.
    pub(super) fn during<T>(self, act: impl FnOnce() -> T) -> (u64, T) {
        SHOWN_SLOT.store(self.0, SeqCst);
        let before = self.allocations();
        let done = act();
        let allocations = self.allocations() - before;
        SHOWN_SLOT.store(usize::MAX, SeqCst);
        (allocations, done)
    }
}
