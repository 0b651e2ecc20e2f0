//! Nothing but the core and a panic handler.
#![no_std]

pub use eventstream_core as core_crate;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
