/**
 * How a Postgres column becomes a Parquet column and comes back: what read_csv reads it as, the expression that types it, which texts the typed column
 * can hold exactly (`fits`; all others go to `_text`), and the text of a decoded value. Decided once, here, for writer and verifier alike.
 */
import type { RelationColumn, TableDescription } from '../change/relation.js';
import { ArrayEncoder, arrayText, ELEMENT_OID } from './arrays.js';
import { dateText, decimalText, decimalTextOfBytes, float4Text, float8Text, timestampText, timeText } from './postgres-text.js';
import type { RawList, RawValue } from './raw-value.js';
import { PLACES, type PlaceOf } from './value-texts.js';

/** What else decides a column's form: of a table's description or a file's metadata. */
export type ColumnContext = {
  readonly types?: TableDescription['types'];
  readonly dimensions?: TableDescription['dimensions'];
  /** Columns that identify a row. */
  readonly key?: readonly string[];
};

export type SegmentColumn = {
  readonly name: string;
  /** Type in read_csv's `columns`. */
  readonly csvType: string;
  /** The DuckDB type in the file. */
  readonly fileType: string;
  /** The DuckDB type in daily files, when another. */
  readonly dailyType?: string;
  /** Expression over the CSV column `c`, giving `fileType`. */
  readonly select: (c: string) => string;
  /** Values are quoted in the CSV. */
  readonly quoted: boolean;
  /** True when the typed column can hold exactly the text at [start, end). */
  readonly fits: (buffer: Uint8Array, start: number, end: number) => boolean;
  /** In words, what it cannot hold; empty: it holds everything. */
  readonly beyond: string;
  /** Lists: what stands in the CSV for the text at [start, end), valid until the next call; undefined when the column cannot hold it exactly. */
  readonly encode?: (buffer: Uint8Array, start: number, end: number) => Uint8Array | undefined;
  /** Lists within lists; 0 for a plain value. */
  readonly depth: number;
  /** The Postgres text of a decoded value. */
  readonly text: (raw: RawValue) => string;
  /** The same as bytes, of values that are packed: see value-texts.ts. */
  readonly places?: PlaceOf | undefined;
};

/** pg_type OIDs of the built-in types that get a Parquet type of their own. Source: pg_type.dat. */
export const OID = {
  bool: 16, bytea: 17, int8: 20, int2: 21, int4: 23, float4: 700, float8: 701, date: 1082, time: 1083, timestamp: 1114, timestamptz: 1184, numeric: 1700,
} as const; // biome-ignore format: a table

type Form = Omit<SegmentColumn, 'name'>;

/** `fits` of a column that holds every text of its type. */
export const holdsAll = (): boolean => true;
const same = (c: string): string => c;
const utf8 = (raw: RawValue): string => (raw as Buffer).toString('utf8');
const plain = (fileType: string, text: (raw: RawValue) => string, places: PlaceOf, fits: Form['fits'] = holdsAll, beyond = ''): Form => ({
  csvType: fileType,
  fileType,
  select: same,
  quoted: false,
  depth: 0,
  fits,
  beyond,
  text,
  places,
});

const TEXT: Form = {
  csvType: 'VARCHAR',
  fileType: 'VARCHAR',
  select: same,
  quoted: true,
  depth: 0,
  fits: holdsAll,
  beyond: '',
  text: utf8,
  places: PLACES.verbatim,
};

const DASH = 0x2d;
const DOT = 0x2e;
const PLUS = 0x2b;
const SPACE = 0x20;
const BACKSLASH = 0x5c;
const LETTER_C = 0x43;
const LETTER_X = 0x78;
const DIGIT_0 = 0x30;
const DIGIT_2 = 0x32;
const DIGIT_4 = 0x34;
const DIGIT_9 = 0x39;

/** A date part with a four-digit year that is not BC: `2026-01-12…`. */
const commonEra = (buffer: Uint8Array, start: number, end: number): boolean =>
  end - start >= 10 && buffer[start + 4] === DASH && buffer[start + 7] === DASH && buffer[end - 1] !== LETTER_C;

/** DuckDB's Parquet dictionaries hold 0 and -0 as one value: whichever came first would be read for both. */
const notMinusZero = (buffer: Uint8Array, start: number, end: number): boolean =>
  !(end - start === 2 && buffer[start] === DASH && buffer[start + 1] === DIGIT_0);

/** `2026-01-12 10:11:12…`: a common date and a time behind it. */
const moment = (buffer: Uint8Array, start: number, end: number): boolean => end - start >= 19 && buffer[start + 10] === SPACE && commonEra(buffer, start, end);

/** The same, in UTC: `…+00`. Another offset would come back as another text. */
const momentUtc = (buffer: Uint8Array, start: number, end: number): boolean =>
  buffer[end - 3] === PLUS && buffer[end - 2] === DIGIT_0 && buffer[end - 1] === DIGIT_0 && moment(buffer, start, end);

const hexText = (raw: RawValue): string => `\\x${(raw as Buffer).toString('hex')}`;

/** `\x…`: bytea_output hex. */
const hex = (buffer: Uint8Array, start: number, end: number): boolean => end - start >= 2 && buffer[start] === BACKSLASH && buffer[start + 1] === LETTER_X;

const utcText = (raw: RawValue): string => `${timestampText(BigInt(raw as bigint))}+00`;
const timeOfDay = (raw: RawValue): string => timeText(Number(raw));
const localText = (raw: RawValue): string => timestampText(BigInt(raw as bigint));

const FORMS: Readonly<Record<number, Form>> = {
  [OID.bool]: plain('BOOLEAN', (raw) => (raw ? 't' : 'f'), PLACES.booleans),
  [OID.int2]: plain('SMALLINT', String, PLACES.integers),
  [OID.int4]: plain('INTEGER', String, PLACES.integers),
  [OID.int8]: plain('BIGINT', String, PLACES.integers),
  [OID.float4]: plain('FLOAT', (raw) => float4Text(raw as number), PLACES.singles, notMinusZero, '−0'),
  [OID.float8]: plain('DOUBLE', (raw) => float8Text(raw as number), PLACES.doubles, notMinusZero, '−0'),
  [OID.date]: plain('DATE', (raw) => dateText(Number(raw)), PLACES.dates, (buffer, start, end) => end - start === 10 && commonEra(buffer, start, end), '±infinity, BC, years above 9999'),
  [OID.time]: plain('TIME', timeOfDay, PLACES.times(timeOfDay), (buffer, start) => !(buffer[start] === DIGIT_2 && buffer[start + 1] === DIGIT_4), '24:00:00'),
  [OID.timestamp]: plain('TIMESTAMP', localText, PLACES.moments('', localText), moment, '±infinity, BC, years above 9999'),
  [OID.timestamptz]: plain('TIMESTAMPTZ', utcText, PLACES.moments('+00', utcText), momentUtc, '±infinity, BC, years above 9999'),
  [OID.bytea]: { csvType: 'VARCHAR', fileType: 'BLOB', select: (c) => `unhex(substr(${c}, 3))`, quoted: true, depth: 0, fits: hex, beyond: '', text: hexText },
}; // biome-ignore format: a table

/** Segments keep every decimal in at least this many digits: shorter ones reach @dsnp/parquetjs' verifier as doubles. Daily files have their own: their reader hands out the integers. */
const LEAST_DECIMAL_DIGITS = 19;

/** Exactly `scale` digits behind the point and not more than fit: not NaN, not Infinity. The typed column prints nothing else. */
function decimalFits(precision: number, scale: number): Form['fits'] {
  const longest = precision + (scale > 0 ? 1 : 0) + (scale === precision ? 1 : 0);
  return (buffer, start, end) => {
    const length = end - start - (buffer[start] === DASH ? 1 : 0);
    if (length > longest || (buffer[end - 1] as number) > DIGIT_9) return false;
    return scale === 0 || buffer[end - 1 - scale] === DOT;
  };
}

/** numeric(p,s) with p ≤ 38 and 0 ≤ s ≤ p: exact DECIMAL. Others keep their text. Source: numeric typmod, ((p << 16) | s) + 4. */
function numericForm(typmod: number): Form {
  if (typmod < 4) return TEXT;
  const precision = ((typmod - 4) >> 16) & 0xffff;
  const scale = (((typmod - 4) & 0x7ff) ^ 1024) - 1024;
  if (precision > 38 || scale < 0 || scale > precision) return TEXT;
  const text = (raw: RawValue): string => (Buffer.isBuffer(raw) ? decimalTextOfBytes(raw, scale) : decimalText(BigInt(raw as number | bigint), scale));
  const type = `DECIMAL(${Math.max(precision, LEAST_DECIMAL_DIGITS)}, ${scale})`;
  return {
    csvType: 'VARCHAR',
    fileType: type,
    dailyType: `DECIMAL(${precision}, ${scale})`,
    // DuckDB reads text into decimals of more than 18 digits 50 times slower than into shorter ones: the short way first.
    select: (c) => (scale > 18 ? `CAST(${c} AS ${type})` : `COALESCE(CAST(TRY_CAST(${c} AS DECIMAL(18, ${scale})) AS ${type}), CAST(${c} AS ${type}))`),
    quoted: false,
    depth: 0,
    fits: decimalFits(precision, scale),
    beyond: 'NaN',
    text,
    places: PLACES.decimals(scale, text),
  };
}

/** A list of a form, `depth` deep. */
function listForm(element: Form, depth: number): Form {
  const encoder = new ArrayEncoder(depth, element.fits);
  const encode: Form['encode'] = (buffer, start, end) => encoder.encode(buffer, start, end);
  const text = (raw: RawValue): string => arrayText(raw as RawList, element.text);
  const levels = '[]'.repeat(depth);
  const typed = (value: string, level: number): string =>
    level === 0 ? `CAST(${element.select(value)} AS ${element.fileType})` : `list_transform(${value}, lambda x${level}: ${typed(`x${level}`, level - 1)})`;
  return {
    csvType: 'VARCHAR',
    fileType: `${element.fileType}${levels}`,
    dailyType: `${element.dailyType ?? element.fileType}${levels}`,
    select: (c) => {
      const texts = `CAST(CAST(${c} AS JSON) AS VARCHAR${levels})`;
      return element.fileType === 'VARCHAR' ? texts : typed(texts, depth);
    },
    quoted: true,
    beyond: [`other than ${depth === 1 ? 'one dimension' : `${depth} dimensions`}, bounds other than 1`, element.beyond].filter(Boolean).join('; with '),
    fits: (buffer, start, end) => encoder.encode(buffer, start, end) !== undefined,
    encode,
    depth,
    text,
  };
}

/** The column's form: domains take that of their base type, arrays become lists of their elements' unless they are part of the key, types without a form are kept as text. */
export function segmentColumn(column: RelationColumn, { types = {}, dimensions = {}, key = [] }: ColumnContext = {}): SegmentColumn {
  const base = withoutDomain(column, types);
  const element = elementOf(base, types);
  if (element === undefined || key.includes(column.name)) return { name: column.name, ...scalarForm(base) };
  return { name: column.name, ...listForm(scalarForm(withoutDomain(element, types)), dimensions[column.name] ?? 1) };
}

/** A type as a column has it. */
export type TypeOf = Pick<RelationColumn, 'typeOid' | 'typmod'>;

/** The type that a domain rests on; any other as it is. */
export function withoutDomain(type: TypeOf, types: TableDescription['types']): TypeOf {
  let { typeOid, typmod } = type;
  for (let described = types[typeOid]; described?.kind === 'd' && described.baseOid !== undefined; described = types[typeOid]) {
    typeOid = described.baseOid;
    typmod = described.baseTypmod ?? -1;
  }
  return { typeOid, typmod };
}

/** The type of an array's elements, whose type modifier is the array's; undefined for any other type. */
export function elementOf({ typeOid, typmod }: TypeOf, types: TableDescription['types']): TypeOf | undefined {
  const elementOid = ELEMENT_OID.get(typeOid) ?? types[typeOid]?.elementOid;
  return elementOid === undefined ? undefined : { typeOid: elementOid, typmod };
}

function scalarForm({ typeOid, typmod }: TypeOf): Form {
  return typeOid === OID.numeric ? numericForm(typmod) : (FORMS[typeOid] ?? TEXT);
}
