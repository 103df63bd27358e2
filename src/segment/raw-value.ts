/** A raw value of a Parquet column: what @dsnp/parquetjs gives before its conversions; of a LIST column a list. */
export type RawValue = bigint | number | boolean | Buffer | RawList;
export type RawList = (RawValue | null)[];
