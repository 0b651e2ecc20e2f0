//! A loan to the threads of a model that ends with the model, because loom has no scoped threads.
#![allow(unsafe_code)]

/// Lends `value` to `body` and drops it afterwards. When `body` panics the value is given up instead: threads of
/// the failed model may still hold it.
///
/// # Safety
///
/// `body` has joined every thread that it gave the loan to, and keeps no part of it, when it returns.
pub unsafe fn lend<T: 'static>(value: T, body: impl FnOnce(&'static mut T)) {
    let value = Box::into_raw(Box::new(value));
    // SAFETY: just made, nobody else's, and not dropped before `body` has returned.
    body(unsafe { &mut *value });
    // SAFETY: made from a box above; the caller keeps nothing of the loan.
    drop(unsafe { Box::from_raw(value) });
}
