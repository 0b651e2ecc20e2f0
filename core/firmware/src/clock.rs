//! The only clock of the device: milliseconds since its start.

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use eventstream_core::time::Instant;

/// Ticks of a millisecond at the 12.5 MHz after a reset.
const TICKS: u32 = 12_500;

static MILLIS: AtomicU32 = AtomicU32::new(0);

/// Starts it.
pub fn start(mut timer: SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(TICKS - 1);
    timer.clear_current();
    timer.enable_counter();
    timer.enable_interrupt();
}

/// Now.
pub fn now() -> Instant {
    Instant::from_micros(u64::from(MILLIS.load(Ordering::Relaxed)) * 1_000)
}

#[exception]
fn SysTick() {
    MILLIS.fetch_add(1, Ordering::Relaxed);
}
