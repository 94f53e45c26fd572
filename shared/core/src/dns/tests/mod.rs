mod answers;
mod lookup;
mod messages;
