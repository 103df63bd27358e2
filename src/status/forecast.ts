/** When the volume of the archive and the stream are full, as status shows it. Pure. */
import { type VolumeAlarm, type VolumeForecast, volumeAlarm } from '../archive/growth.js';
import { perDay } from '../runtime/forecast.js';
import type { StreamForecast } from '../stream/forecast.js';

/** Null where nothing is known. Bytes, and seconds from now; `fullInSeconds` null: not known yet (ten minutes are needed), or never, as it goes. */
export type Forecast = {
  readonly archive: {
    readonly freeBytes: number;
    readonly sizeBytes: number;
    readonly bytesPerDay: number | null;
    readonly fullInSeconds: number | null;
    /** It is full, or soon will be: what was seen and what to do. Null while there is room. */
    readonly alarm: VolumeAlarm | null;
  } | null;
  /** If nothing is taken out of it, as while archiving stands still. */
  readonly stream: { readonly bytes: number; readonly limitBytes: number; readonly bytesPerDay: number | null; readonly fullInSeconds: number | null } | null;
};

export function forecastOf(volume: VolumeForecast | null, stream: StreamForecast | null): Forecast {
  return {
    archive: volume && {
      freeBytes: volume.freeBytes,
      sizeBytes: volume.sizeBytes,
      bytesPerDay: rounded(perDay(volume.growth)),
      fullInSeconds: rounded(volume.fullInSeconds),
      alarm: volumeAlarm(volume),
    },
    stream: stream && {
      bytes: stream.bytes,
      limitBytes: stream.limitBytes,
      bytesPerDay: rounded(perDay(stream.growth)),
      fullInSeconds: rounded(stream.fullInSeconds),
    },
  };
}

function rounded(value: number | null): number | null {
  return value === null ? null : Math.round(value);
}
