mod answers;
mod messages;
