const MiniCssExtractPlugin = require("mini-css-extract-plugin");
const path = require("node:path");

module.exports = {
  mode: "production",
  entry: { main: "./src/main.js" },
  output: {
    path: path.join(__dirname, "dist"),
    publicPath: "/static/",
    filename: "[name].[contenthash].js",
  },
  module: {
    rules: [
      { test: /\.css$/, use: [MiniCssExtractPlugin.loader, "css-loader"] },
      { test: /\.(png|svg)$/, type: "asset/resource" },
    ],
  },
  plugins: [new MiniCssExtractPlugin({ filename: "[name].[contenthash].css" })],
};
