/** What the supervisor knows of its services, told to the console whenever it changes. Owns the reports; decides nothing. */
import type { ChildProcess } from 'node:child_process';
import { type LastWords, readLastWords, reportMessage, type ServiceReport, type ServiceState } from '../../src/runtime/supervision.js';

export class ServiceReports {
  readonly #reports = new Map<string, ServiceReport>();
  #console: ChildProcess | undefined;

  /** A service was started: its last words are taken as they come. The console hears of all of them. */
  started(service: string, child: ChildProcess): void {
    const before = this.#reports.get(service);
    child.on('message', (message) => {
      const words = readLastWords(message);
      if (words !== undefined) this.#said(service, words);
    });
    if (service === 'console') {
      this.#console = child;
      this.#tell();
    } else
      this.#set({
        service,
        state: 'running',
        since: new Date().toISOString(),
        restarts: before === undefined ? 0 : before.restarts + 1,
        last: before?.last ?? null,
      });
  }

  ended(service: string, state: Exclude<ServiceState, 'running'>): void {
    const before = this.#reports.get(service);
    if (before !== undefined) this.#set({ ...before, state, since: new Date().toISOString() });
  }

  /** May come before its end is known, or after. */
  #said(service: string, last: LastWords): void {
    const before = this.#reports.get(service);
    if (before !== undefined) this.#set({ ...before, last });
  }

  #set(report: ServiceReport): void {
    this.#reports.set(report.service, report);
    this.#tell();
  }

  #tell(): void {
    if (this.#console?.connected === true) this.#console.send(reportMessage([...this.#reports.values()]), () => undefined); // it may end at any moment
  }
}
