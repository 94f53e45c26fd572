mod addresses;
mod policies;
mod property;
mod scale;
mod services;
