// A terminal that a test types into and looks at: tmux holds it.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Session } from '../installed.ts';
import { eventually } from './place.ts';

export interface Screen extends AsyncDisposable {
  type(...keys: readonly string[]): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
  text(): Promise<string>;
  waitFor(pattern: RegExp): Promise<void>;
}

export interface ScreenOptions {
  readonly columns?: number;
  readonly rows?: number;
  readonly env?: Readonly<Record<string, string>>;
}

let screens = 0;

/** With a shell that has job control, in the session's folder. */
export async function openScreen(
  session: Session,
  { columns = 100, rows = 30, env = {} }: ScreenOptions = {},
): Promise<Screen> {
  screens += 1;
  const socket = `belay-${process.pid}-${screens}`;
  const tmux = async (...args: readonly string[]): Promise<string> => {
    const { stdout, stderr, status } = await session.exec(['tmux', '-L', socket, ...args], {
      env,
    });
    if (status !== 0) throw new Error(`tmux ${args[0]}: ${stderr}`);
    return stdout;
  };
  const shell = 'bash --noprofile --norc -i';
  const settings = join(session.workdir, 'tmux.conf');
  writeFileSync(settings, `set -g status off\nset -g default-size ${columns}x${rows}\n`);
  await tmux('-f', settings, 'new-session', '-d', '-x', String(columns), '-y', String(rows), shell);
  await tmux('set-option', '-g', 'window-size', 'manual');
  const text = () => tmux('capture-pane', '-p', '-J', '-S', '-500');
  return {
    type: async (...keys) => void (await tmux('send-keys', ...keys)),
    resize: async (columns, rows) =>
      void (await tmux('resize-window', '-x', String(columns), '-y', String(rows))),
    text,
    async waitFor(pattern) {
      let last = '';
      await eventually(`screen with ${pattern}`, async () => {
        last = await text();
        return pattern.test(last) || undefined;
      }).catch((error: Error) => {
        throw new Error(
          `${error.message}; it shows:\n${last.trimEnd().split('\n').slice(-20).join('\n')}`,
        );
      });
    },
    async [Symbol.asyncDispose]() {
      await tmux('kill-server').catch(() => '');
    },
  };
}
