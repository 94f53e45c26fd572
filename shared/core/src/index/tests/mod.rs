mod addresses;
mod names;
mod policies;
mod property;
mod scale;
mod services;
