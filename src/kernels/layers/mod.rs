//! What stands between the products of a network.

pub(crate) mod activate;
pub(crate) mod activation;
pub(crate) mod add;
pub(crate) mod attention;
pub(crate) mod gather_rows;
pub(crate) mod im2col;
pub(crate) mod layer_norm;
pub(crate) mod masked_mean;
pub(crate) mod max_pool;
pub(crate) mod softmax;

pub use activation::Activation;

kernels! {
    activate: activate;
    add: add;
    attention: attention;
    gather_rows: gather_rows;
    im2col: Image, Window, im2col;
    layer_norm: layer_norm;
    masked_mean: masked_mean;
    max_pool: max_pool;
    softmax: softmax;
}
