mod binarize;
mod depalettize;
mod palettize;
