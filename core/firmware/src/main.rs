//! A device that publishes: a Cortex-M3 with a UART to a node and its events in flash.
//!
//! It makes events `event 0`, `event 1` and so on, keeps each in flash, publishes them to the topic `device-N` with N from
//! its orders, and ends when the cluster has all of them. The number of an event is the one that the flash gives it, so
//! that a reset at any moment makes none twice and leaves none out.
#![no_std]
#![no_main]

mod arguments;
mod clock;
mod file;
mod text;
mod uart;

use arguments::Arguments;
use core::panic::PanicInfo;
use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use embedded_io::{Read, ReadReady, Write};
use eventstream_core::crc::Crc32;
use eventstream_core::id::{Epoch, ProducerId};
use eventstream_core::producer::{FlashLog, HandleError, Inbox, Producer, State, StopReason, Stored};
use eventstream_core::time::{Duration, Instant};
use eventstream_core::wire::MAX_CONTROL_LEN;
use file::FileFlash;
use text::Text;
use uart::Uart;

const CRC: Crc32 = Crc32::portable();
/// Bytes of the longest record.
const RECORD_LEN: usize = 256;
/// Bytes of the largest batch.
const BATCH_LEN: usize = 2_048;
/// After a connection has ended, the device waits for so long before it says hello again.
const RECONNECT: Duration = Duration::from_millis(500);
/// A device that has heard nothing for so long sleeps until its next millisecond.
const AWAKE: Duration = Duration::from_millis(5);

type Device = Producer<FileFlash, &'static mut [u8]>;

#[entry]
fn main() -> ! {
    static mut RECORD: [u8; RECORD_LEN] = [0; RECORD_LEN];
    static mut BATCH: [u8; BATCH_LEN] = [0; BATCH_LEN];
    static mut INBOX: [u8; MAX_CONTROL_LEN] = [0; MAX_CONTROL_LEN];
    let peripherals = cortex_m::Peripherals::take().expect("nobody has taken them before");
    clock::start(peripherals.SYST);
    let (mut node, mut log) = (Uart::NODE, Uart::LOG);
    node.enable();
    log.enable();

    let arguments = Arguments::read();
    let events = open(&arguments, RECORD);
    say(&mut log, Text::of("start: keeps ").number(events.first().0).and(" to ").number(events.next().0));
    let mut link = Link { node, log, inbox: Inbox::new(INBOX), connect_at: Instant::ZERO, epoch: Epoch(0) };
    let mut device = Producer::new(events, CRC);
    let mut heard_at = Instant::ZERO;
    loop {
        let now = clock::now();
        make_event(&mut device, &arguments);
        let was_heard = link.listen(&mut device, now);
        let has_spoken = link.speak(&mut device, now, BATCH);
        if device.log().next().0 >= arguments.events && device.is_done() {
            say(&mut link.log, Text::of("done: ").number(device.log().next().0).and(" events"));
            end(EXIT_SUCCESS);
        }
        if was_heard || has_spoken || device.log().next().0 < arguments.events {
            heard_at = now;
        } else if now >= heard_at + AWAKE {
            cortex_m::asm::wfi();
        }
    }
}

/// What the flash holds; a new log if it is new.
fn open(arguments: &Arguments, buffer: &'static mut [u8]) -> FlashLog<FileFlash, &'static mut [u8]> {
    let flash = FileFlash::open(arguments.tear).unwrap_or_else(|_| panic!("there is no flash.bin"));
    let mut id = *b"eventstream-qemu";
    id[15] = arguments.id;
    let log = FlashLog::open_or_format(flash, buffer, ProducerId(id), CRC);
    log.unwrap_or_else(|_| panic!("the flash cannot be read"))
}

fn make_event(device: &mut Device, arguments: &Arguments) {
    let (number, kept) = (device.log().next().0, device.log().len());
    if number >= arguments.events || kept >= arguments.hold {
        return;
    }
    let text = Text::of("event ").number(number);
    let topic = Text::of("device-").number(arguments.id.into());
    let topic = core::str::from_utf8(topic.bytes()).expect("it was written as text");
    let event = Stored { topic, time_us: clock::now().as_micros(), key: b"", payload: text.bytes() };
    let kept = device.append(&event).unwrap_or_else(|_| panic!("the event was not kept"));
    assert!(kept.0 == number, "events are numbered by the flash");
}

/// The stream to the node.
struct Link {
    node: Uart,
    log: Uart,
    inbox: Inbox<&'static mut [u8]>,
    connect_at: Instant,
    /// The last that was told.
    epoch: Epoch,
}

impl Link {
    /// Takes what has come. Returns whether that was anything.
    fn listen(&mut self, device: &mut Device, now: Instant) -> bool {
        let mut was_heard = false;
        while matches!(self.node.read_ready(), Ok(true)) {
            let Ok(read) = self.node.read(self.inbox.room());
            self.inbox.handle_filled(read);
            was_heard = true;
            if !self.take_frames(device, now) {
                self.close(device, now);
            }
        }
        if device.is_silent(now) {
            say(&mut self.log, Text::of("the node is silent"));
            self.close(device, now);
        }
        was_heard
    }

    /// Returns whether the connection is still good.
    fn take_frames(&mut self, device: &mut Device, now: Instant) -> bool {
        loop {
            match self.inbox.poll_frame(CRC) {
                Ok(None) => return true,
                Ok(Some(frame)) => {
                    if let Err(error) = device.handle_frame(now, &frame) {
                        say(&mut self.log, Text::of("closed: ").and(words(error)));
                        return false;
                    }
                }
                Err(_) => {
                    say(&mut self.log, Text::of("closed: out of step"));
                    return false;
                }
            }
        }
    }

    fn close(&mut self, device: &mut Device, now: Instant) {
        self.inbox.clear();
        device.handle_disconnected();
        self.connect_at = now + RECONNECT;
    }

    /// Says what there is to say. Returns whether that was anything.
    fn speak(&mut self, device: &mut Device, now: Instant, batch: &mut [u8]) -> bool {
        if matches!(device.state(), State::Disconnected) && now >= self.connect_at {
            self.inbox.clear();
            device.handle_connected(now);
        }
        let transmit = device.poll_transmit(now, batch).unwrap_or_else(|_| panic!("the flash cannot be read"));
        if let Some(transmit) = transmit {
            if let Some(dropped) = transmit.dropped {
                say(
                    &mut self.log,
                    Text::of("dropped: ").number(dropped.first.0).and(" to ").number(dropped.end.prev().0),
                );
            }
            let Ok(()) = self.node.write_all(&batch[..transmit.len]);
        }
        self.tell_state(device.state());
        transmit.is_some()
    }

    fn stop(&mut self, why: &str) -> ! {
        say(&mut self.log, Text::of("stopped: ").and(why));
        end(EXIT_FAILURE)
    }

    fn tell_state(&mut self, state: State) {
        match state {
            State::Open { epoch } if epoch != self.epoch => {
                self.epoch = epoch;
                say(&mut self.log, Text::of("open: epoch ").number(epoch.0.into()));
            }
            State::Stopped(StopReason::Fenced) => self.stop("another device has this id"),
            State::Stopped(StopReason::NumbersTaken { .. }) => self.stop("the numbers of this id are used up"),
            State::Stopped(StopReason::Refused(_)) => self.stop("the node refuses the connection"),
            _ => {}
        }
    }
}

/// A line for people.
fn say(log: &mut Uart, line: Text) {
    let Ok(()) = log.write_all(line.and("\n").bytes());
}

fn words(error: HandleError) -> &'static str {
    match error {
        HandleError::Control(_) | HandleError::Unexpected(_) => "not understood",
        HandleError::ReceiptDoesNotFit => "a receipt for other events",
        HandleError::Refused(_) => "refused by the node",
    }
}

/// Says no more than that: the words and places of all panics take as much flash as half of the firmware, and are linked as
/// soon as they are looked at. A debugger shows who has called.
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    let mut log = Uart::LOG;
    say(&mut log, Text::of("panic"));
    end(EXIT_FAILURE)
}

fn end(status: debug::ExitStatus) -> ! {
    debug::exit(status);
    loop {
        cortex_m::asm::wfi();
    }
}
