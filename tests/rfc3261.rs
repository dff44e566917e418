//! RFC 3261 and what amends it, one file a section.

mod section_12_dialogs;
mod section_16_10_cancel;
mod section_16_3_validation;
mod section_16_4_preprocessing;
mod section_16_6_forwarding;
mod section_16_6_names;
mod section_16_7_responses;
mod section_16_8_timer_c;
mod section_16_9_transport_errors;
mod section_17_transactions;
mod section_18_streams;
mod section_18_transport;
