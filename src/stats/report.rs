//! stub
pub struct Report;
impl Report { pub fn collect(_p:&crate::config::plan::Plan,_s:&[std::sync::Arc<super::worker::WorkerStats>])->Self{Report}
 pub fn to_text(&self)->String{String::new()} pub fn to_json(&self)->serde_json::Value{serde_json::Value::Null} }
