//! Local programs that serve accounts: real children of the real program, well and badly behaved.

mod faults;
mod files;
mod house;
mod life;
mod load;
mod seen;
mod successor;
mod together;
mod upgrade;
mod upgraded;
