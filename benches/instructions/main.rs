//! Instruction counts: what one operation costs, however busy the machine is. `dev/instructions` runs each case under
//! callgrind and compares with what is recorded; README.md beside this file says how to read it.
//!
//!     instructions list            every case, a JSON object a line
//!     instructions run NAME SIZE   one case, to be counted
//!     instructions cpu             what this processor can, as this program sees it

mod case;
mod codec;
mod delivery;
mod edge;
mod fanout;
mod session;
mod timers;
mod wire;

use case::{Case, Failed};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn cases() -> Vec<Case> {
    let mut all = codec::cases();
    all.extend(wire::cases());
    all.extend(session::cases());
    all.extend(timers::cases());
    all.extend(delivery::cases());
    all.extend(fanout::cases());
    all
}

fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => cases().iter().for_each(|case| println!("{case}")),
        ["run", name, size] => {
            let all = cases();
            let case = all.iter().find(|case| case.name() == *name);
            case.ok_or("no such case")?.run(size.parse()?)?;
        }
        ["cpu"] => println!("{}", case::processor()),
        // `cargo bench` and `cargo test` say `--bench` and the like: nothing is counted without callgrind.
        _ => println!("{} cases; dev/instructions counts them", cases().len()),
    }
    Ok(())
}
