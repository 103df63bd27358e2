/**
 * Named places where the fault tests may kill or stop this process: `TIDEMARK_FAULT=A6:kill:3` = SIGKILL at the third passage of A6;
 * `stop` = SIGSTOP; `error` = throw; `TIDEMARK_FAULT=count` prints each passage to standard error. Inert (one comparison) when the variable is not set. The steps are
 * listed in docs/reliability.md.
 */
export type FaultPoint =
  | 'C1'
  | 'C2'
  | 'C3'
  | 'C4'
  | 'C5'
  | 'C6'
  | 'C7'
  | 'A1'
  | 'A2'
  | 'A3'
  | 'A4'
  | 'A5'
  | 'A6'
  | 'A7'
  | 'A8'
  | 'A9'
  | 'A10'
  | 'A11'
  | 'K1'
  | 'K2'
  | 'K3'
  | 'K4'
  | 'K5'
  | 'K6'
  | 'K7'
  | 'P1'
  | 'P2'
  | 'P3'
  | 'P4'
  | 'P5'
  | 'P6'
  | 'P7'
  | 'R1'
  | 'R2'
  | 'R3'
  | 'R4'
  | 'R5';

type Armed = { point: string; action: 'kill' | 'stop' | 'error'; passage: number } | 'count';

const armed: Armed | undefined = parseFault(process.env['TIDEMARK_FAULT']);
let passages = 0;

function parseFault(text: string | undefined): Armed | undefined {
  if (!text) return undefined;
  if (text === 'count') return 'count';
  const [point, action = 'kill', passage = '1'] = text.split(':');
  if (!point || !/^[CAKPR]\d{1,2}$/.test(point) || !['kill', 'stop', 'error'].includes(action) || !/^[1-9]\d*$/.test(passage)) {
    throw new SyntaxError(`TIDEMARK_FAULT: ${JSON.stringify(text)} is neither POINT:kill|stop|error:N nor count`);
  }
  return { point, action: action as 'kill' | 'stop' | 'error', passage: Number(passage) };
}

/** Passes a named step. */
export function faultPoint(point: FaultPoint): void {
  if (armed === undefined) return;
  if (armed === 'count') return void process.stderr.write(`fault-point ${point}\n`);
  if (armed.point !== point) return;
  passages += 1;
  if (passages !== armed.passage) return;
  if (armed.action === 'error') throw new Error(`fault ${point}`);
  process.kill(process.pid, armed.action === 'kill' ? 'SIGKILL' : 'SIGSTOP');
  // A signal to oneself is delivered asynchronously: do not let the code run on past the step.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
}
