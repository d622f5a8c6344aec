import Testing

/// Tests of the built program, alone and under a real `mpirun`, one job after the other.
@Suite(.serialized) struct CommandTests {}

/// Tests of commands that take seconds: help, refusals, exchange. They run one after the other, in parallel with
/// `CommandTests`, to use cores that are idle while a job starts.
@Suite(.serialized) struct ShortCommandTests {}
