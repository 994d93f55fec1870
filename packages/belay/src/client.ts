// For programs that watch or steer a daemon of their own user: the control API's client and the
// shapes that it answers with.
//
//   const client = connectControl(findHome(process.env));
//   const { runs } = await client.get<DaemonStatus>('/v1/status');

export { type Client, connectControl, type LineStream } from './control/client.ts';
export { findHome, type Home } from './control/home.ts';
export type { DaemonStatus, RunRow, RunSummary } from './control/protocol.ts';
export type { Entry } from './core/entry.ts';
export { BelayError, type ErrorCode } from './core/errors.ts';
