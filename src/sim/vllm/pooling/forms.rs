//! The forms of the bodies, fields in the order in which vLLM 0.32 looks at them (its classes in `protocol.py`).

use crate::sim::vllm::schema::{Field, Kind};

const MODEL: Field = Field::nullable("model", Kind::Text);
const TRUNCATE: Field = Field::nullable("truncate_prompt_tokens", Kind::Whole(-1));
const INPUT: Field = Field::needed("input", Kind::Inputs);
const MESSAGES: Field = Field::needed("messages", Kind::List);
const BATCH: Field = Field::needed("messages", Kind::Sequence);
const DIMENSIONS: Field = Field::nullable("dimensions", Kind::Whole(i64::MIN));
const FORMAT: Field =
    Field::given("encoding_format", Kind::OneOf(&[&["float", "base64", "bytes", "bytes_only"]]));
const DTYPE: Field = Field::given(
    "embed_dtype",
    Kind::OneOf(&[&["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"]]),
);
const ENDIANNESS: Field = Field::given("endianness", Kind::OneOf(&[&["native", "big", "little"]]));
const TASKS: Kind = Kind::OneOf(&[&[
    "embed",
    "classify",
    "token_embed",
    "token_classify",
    "plugin",
    "embed&token_classify",
]]);
const TASK: Field = Field::nullable("task", TASKS);
const SCORED: Kind = Kind::ManyScored;

/// `/v1/embeddings`: texts or ids, a chat, several chats, and both kinds of chats as `input`.
pub(super) const EMBEDDINGS: [&[Field]; 5] = [
    &[FORMAT, DTYPE, ENDIANNESS, DIMENSIONS, INPUT, MODEL, TRUNCATE],
    &[FORMAT, DTYPE, ENDIANNESS, DIMENSIONS, MESSAGES, MODEL, TRUNCATE],
    &[FORMAT, DTYPE, ENDIANNESS, DIMENSIONS, MODEL, TRUNCATE, BATCH],
    &[
        FORMAT,
        DTYPE,
        ENDIANNESS,
        DIMENSIONS,
        MESSAGES,
        MODEL,
        TRUNCATE,
        Field::needed("input", Kind::List),
    ],
    &[
        FORMAT,
        DTYPE,
        ENDIANNESS,
        DIMENSIONS,
        MODEL,
        TRUNCATE,
        BATCH,
        Field::needed("input", Kind::Sequence),
    ],
];

/// `/pooling`: texts or ids, a chat, and what only plugins read.
pub(super) const POOLING: [&[Field]; 3] = [
    &[FORMAT, DTYPE, ENDIANNESS, DIMENSIONS, INPUT, MODEL, TRUNCATE, TASK],
    &[FORMAT, DTYPE, ENDIANNESS, DIMENSIONS, MESSAGES, MODEL, TRUNCATE, TASK],
    &[
        FORMAT,
        DTYPE,
        ENDIANNESS,
        MODEL,
        TRUNCATE,
        Field::needed("data", Kind::Any),
        Field::given("task", TASKS),
    ],
];

/// `/classify`: texts or ids, and a chat.
pub(super) const CLASSIFY: [&[Field]; 2] =
    [&[INPUT, MODEL, TRUNCATE], &[MESSAGES, MODEL, TRUNCATE]];

/// The names of both sides of `/score`, in the order of [`SCORE`].
pub(super) const SIDES: [(&str, &str); 4] =
    [("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")];

/// `/score`.
pub(super) const SCORE: [&[Field]; 4] = [
    &[MODEL, TRUNCATE, Field::needed(SIDES[0].0, SCORED), Field::needed(SIDES[0].1, SCORED)],
    &[MODEL, TRUNCATE, Field::needed(SIDES[1].0, SCORED), Field::needed(SIDES[1].1, SCORED)],
    &[MODEL, TRUNCATE, Field::needed(SIDES[2].0, SCORED), Field::needed(SIDES[2].1, SCORED)],
    &[MODEL, TRUNCATE, Field::needed(SIDES[3].0, SCORED), Field::needed(SIDES[3].1, SCORED)],
];

/// `/rerank`.
pub(super) const RERANK: [&[Field]; 1] = [&[
    MODEL,
    TRUNCATE,
    Field::needed("query", Kind::Scored),
    Field::needed("documents", SCORED),
    Field::given("top_n", Kind::Whole(0)),
]];
